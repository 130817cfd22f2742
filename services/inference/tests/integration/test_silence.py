"""The engine keeps to itself: it calls nobody and leaves nothing in the home folder."""

import os
import subprocess
import sys

import pytest

from inference.engines import minilm, multilingual

# Written at once, since telemetry works in threads and processes that outlive what it reports.
WATCHED = """
import os, sys

log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def watch(event, arguments):
    if event in {"socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"}:
        os.write(log, f"{event} {arguments}\\n".encode())

sys.addaudithook(watch)

from inference.engines import minilm, multilingual

{minilm.PROFILE_NAME: minilm, multilingual.PROFILE_NAME: multilingual}[sys.argv[2]].load()
"""


@pytest.mark.parametrize("profile", [minilm.PROFILE_NAME, multilingual.PROFILE_NAME])
def test_a_loaded_engine_has_called_nobody_and_written_nothing(tmp_path, profile):
    home, calls = tmp_path / "home", tmp_path / "calls"
    home.mkdir()
    subprocess.run(
        [sys.executable, "-c", WATCHED, str(calls), profile],
        env={**os.environ, "HOME": str(home)},
        timeout=60,
        check=True,
    )
    assert (calls.read_text(), list(home.rglob("*"))) == ("", [])
