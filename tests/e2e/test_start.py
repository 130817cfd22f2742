"""A second start with a data folder starts the parts and nothing else, with one line for each."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from aquifer.services import NAMES
from stack import processes
from stack.up import Stack

pytestmark = pytest.mark.timeout(300)

PROGRAMS = sorted(["nats-server", "postgres", "stack.sink", "query.vectors", *NAMES])


def program(argv: tuple[str, ...]) -> str:
    return argv[2] if argv[0] == sys.executable else Path(argv[0]).name


def test_a_second_start_runs_the_parts_alone_and_says_ready_once(monkeypatch: pytest.MonkeyPatch):
    started: list[str] = []
    begin = processes.Child.__init__

    def noted(child, command, guardian):
        started.append(program(command.argv))
        begin(child, command, guardian)

    with tempfile.TemporaryDirectory(prefix="aquifer-start-") as folder:
        with Stack(Path(folder)) as stack:
            stack.start()
        monkeypatch.setattr(processes.Child, "__init__", noted)
        with Stack(Path(folder)) as stack:
            stack.start()
        assert sorted(started) == PROGRAMS

        line = [sys.executable, "-m", "stack", "up", "--data-dir", folder]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as up:
            said = []
            for each in up.stdout:
                # On a slow machine there may be lines `PART waiting WHY`.
                if b" waiting " not in each:
                    said.append(each.decode())
                if b"Aquifer is ready" in each:
                    up.terminate()
        assert [each for each in said if "ready" in each.lower()] == [said[len(PROGRAMS)]]
        assert said[len(PROGRAMS)].startswith("Aquifer is ready after ")

        with subprocess.Popen([*line, "--json"], stdout=subprocess.PIPE) as up:
            events = []
            for each in up.stdout:
                events.append(json.loads(each))
                if events[-1]["event"] == "ready":
                    up.terminate()
        names = [event["event"] for event in events if event["event"] != "waiting"]
        assert names == ["up"] * len(PROGRAMS) + ["ready"] + ["stopped"] * len(PROGRAMS)
