"""However a stack ends, none of its processes and ports is left."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(600)

START_S = 150.0
GONE_S = 60.0
DEMO_S = 240.0
# Four services, the bus, Postgres, vectors, traces, the supervisor and its guardian.
PARTS = 10


def belongs(pid: int, folder: bytes) -> bool:
    """Whether a process names the folder, runs in it or holds a file of it open."""
    home = Path("/proc", str(pid))
    with contextlib.suppress(OSError):
        if folder in (home / "cmdline").read_bytes() or folder in (home / "environ").read_bytes():
            return True
        links = [home / "cwd", *(home / "fd").iterdir()]
        return any(os.fsencode(link.readlink()).startswith(folder) for link in links)
    return False


def processes_of(folder: Path) -> set[int]:
    """Processes other than this one and the command that was started to look at."""
    pids = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return {pid for pid in pids - {os.getpid()} if belongs(pid, os.fsencode(folder))}


def ports_in(endpoints: Path) -> set[int]:
    return {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", endpoints.read_text())}


def listening(ports: set[int]) -> set[int]:
    found = set()
    for port in ports:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            found.add(port)
    return found


@dataclass
class Launched:
    """A command in its own session, as a terminal starts it."""

    process: subprocess.Popen[str]
    folder: Path
    ports: set[int] = field(default_factory=set)

    @property
    def data(self) -> Path:
        """The data folder: `aquifer demo` makes its own."""
        return next(iter(self.folder.glob("aquifer-demo-*")), self.folder)

    def until(self, file: str) -> None:
        """Waits for a file in the data folder."""
        deadline = time.monotonic() + START_S
        while not (self.data / file).exists():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def until_up(self) -> None:
        """Waits until everything runs, and checks that it would be found if it stayed."""
        self.until("endpoints.json")
        self.ports = ports_in(self.data / "endpoints.json")
        assert listening(self.ports) == self.ports
        assert len(processes_of(self.folder)) >= PARTS

    def ctrl_c(self) -> None:
        """What a terminal does: the signal goes to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def said(self) -> str:
        self.process.kill()
        return "".join(self.process.communicate())

    def assert_nothing_is_left(self) -> None:
        deadline = time.monotonic() + GONE_S
        while time.monotonic() < deadline:
            if not processes_of(self.folder) and not listening(self.ports):
                return
            time.sleep(0.1)
        left = {
            pid: Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            for pid in processes_of(self.folder)
        }
        raise AssertionError(f"left: {left}, listening: {listening(self.ports)}")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own: PostgreSQL, started by root, runs as a user who may not pass through it."""
    path = Path(tempfile.mkdtemp(prefix="aquifer-left-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def launch(folder: Path, *arguments: str) -> Iterator[Launched]:
    process = subprocess.Popen(
        [sys.executable, "-m", "aquifer_cli", *arguments],
        env={**os.environ, "AQUIFER_HOME": str(folder), "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Launched(process, folder)
    finally:
        process.kill()
        process.communicate()


def test_the_demo_passes_and_leaves_nothing(folder, record_property):
    began = time.monotonic()
    with launch(folder, "demo", "--json") as demo:
        demo.until_up()
        out, err = demo.process.communicate(timeout=DEMO_S)
        record_property("demo_seconds", round(time.monotonic() - began, 1))
        records = [json.loads(line) for line in out.splitlines()]
        assert demo.process.returncode == 0, err
        demo.assert_nothing_is_left()
    assert records[-1]["passed"] is True
    upload, answer = (record for record in records if "spans" in record)
    links = {link for span in answer["spans"] for link in span["links"]}
    assert upload["trace_id"] in links
    assert {span["service"] for span in upload["spans"]} >= {"ingest", "inference", "query"}
    assert list(folder.iterdir()) == []


def test_the_demo_interrupted_while_it_starts_leaves_nothing(folder):
    with launch(folder, "demo") as demo:
        demo.until("logs/postgres.log")
        assert processes_of(folder)
        demo.ctrl_c()
        _, err = demo.process.communicate(timeout=120)
        assert demo.process.returncode == 130
        assert "INTERRUPTED" in err
        assert "Traceback" not in err
        demo.assert_nothing_is_left()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_demo_ended_in_the_middle_leaves_nothing(folder, number):
    with launch(folder, "demo") as demo:
        demo.until_up()
        os.killpg(demo.process.pid, number)
        _, err = demo.process.communicate(timeout=120)
        assert demo.process.returncode == 128 + number
        assert "Traceback" not in err
        demo.assert_nothing_is_left()
    assert list(folder.iterdir()) == []


def test_the_demo_killed_in_the_middle_leaves_no_process_and_no_port(folder):
    with launch(folder, "demo") as demo:
        demo.until_up()
        demo.process.kill()
        demo.process.wait(60)
        demo.assert_nothing_is_left()


def test_a_stack_stopped_by_ctrl_c_leaves_nothing_but_its_data(folder):
    with launch(folder, "up", "--json") as up:
        up.until_up()
        up.ctrl_c()
        out, err = up.process.communicate(timeout=120)
        assert up.process.returncode == 0, err
        up.assert_nothing_is_left()
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert "ready" in events
    assert events[-1] == "stopped"
    assert not (folder / "endpoints.json").exists()


def test_a_stack_that_is_killed_leaves_no_process_and_no_port(folder):
    with launch(folder, "up") as up:
        up.until_up()
        up.process.kill()
        up.process.wait(60)
        up.assert_nothing_is_left()
