"""The adapters' own suites, run once more against real servers in containers.

Where there is no engine, or no image, the run ends with a line that says so. With
AQUIFER_CONTAINERS=required that is a failure.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.containers.images import NATS, POSTGRES, QDRANT, why_absent

ROOT = Path(__file__).parents[2]
SUITE_S = 300
# The engine's proxy takes a connection for a server that is not up yet and drops it at once;
# nats-py leaves such a one to the collector.
DROPPED = "ignore:unclosed <StreamWriter:ResourceWarning"
SUITES = {
    "nats": (
        NATS,
        "packages/chassis/tests/test_consume.py",
        "packages/chassis/tests/test_provision.py",
    ),
    "postgres": (
        POSTGRES,
        "packages/chassis/tests/test_outbox.py",
        "services/auth/tests/integration/test_isolation.py",
        "services/auth/tests/integration/test_store.py",
        "services/query/tests/component/test_isolation.py",
    ),
    "qdrant": (
        QDRANT,
        "services/query/tests/integration/test_vectors_conformance.py",
        *("-k", "qdrant"),
    ),
}


@pytest.mark.timeout(SUITE_S + 330)
@pytest.mark.parametrize("server", SUITES)
def test_suite_passes_on_a_container(server, say_absent):
    image, *suite = SUITES[server]
    if reason := why_absent(image):
        say_absent(f"{server}: {reason}")
        assert os.environ.get("AQUIFER_CONTAINERS") != "required", reason
        return
    pytest_with_plugin = (sys.executable, "-m", "pytest", "-p", "tests.containers.plugin")
    run = subprocess.run(
        [*pytest_with_plugin, "--container", server, "-W", DROPPED, *suite],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SUITE_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
