"""The supervisor with real servers, in a process that can be killed."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import Signals

import pytest

from stack.ports import is_listening
from stack.supervisor import Backoff
from stack.trees import descendants, is_alive

PROGRAM = Path(__file__).with_name("small_stack.py")
START_S = 90

pytestmark = pytest.mark.timeout(300)


class SmallStack:
    """A running `small_stack.py` and what it says."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, folder, *options], stdout=subprocess.PIPE, text=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)

    def wait_for(self, event: str, part: str | None = None) -> dict:
        deadline = time.monotonic() + START_S
        notices = []
        while True:
            try:
                said = json.loads(self._lines.get(timeout=max(0, deadline - time.monotonic())))
            except queue.Empty:
                pytest.fail(f"no {event} of {part}, but {notices}")
            if said["event"] == event and part in (None, said.get("part")):
                return said
            notices.append(said)

    def end(self, number: Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(START_S)


@contextmanager
def run_stack(folder: Path, *options: str) -> Iterator[SmallStack]:
    running = SmallStack(folder, *options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        running.process.stdout.close()


def wait_for(condition: Callable[[], bool], within_s: float = 30) -> bool:
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def list_survivors(up: dict) -> list[int]:
    return [pid for pid in (*up["pids"].values(), *up["descendants"]) if is_alive(pid)]


@pytest.mark.parametrize("number", [Signals.SIGTERM, Signals.SIGINT])
def test_asked_to_end_it_leaves_no_process_and_no_port(folder: Path, number: Signals):
    with run_stack(folder) as running:
        up = running.wait_for("all up")
        assert len(up["descendants"]) >= 6
        assert all(is_listening(port) for port in up["ports"])
        assert running.end(number) == 0
        # The last started is the first to stop.
        assert [running.wait_for("stopped")["part"] for _ in range(3)] == [
            "family",
            "postgres",
            "nats",
        ]
    assert list_survivors(up) == []
    assert not any(is_listening(port) for port in up["ports"])


def test_killed_it_leaves_no_process_and_no_port_and_can_be_started_again(folder: Path):
    with run_stack(folder) as running:
        up = running.wait_for("all up")
        assert running.end(Signals.SIGKILL) == -signal.SIGKILL
        with run_stack(folder) as again:
            second = again.wait_for("all up")
            # The data folder was held until the last of them was gone.
            assert list_survivors(up) == []
            assert not any(is_listening(port) for port in up["ports"])
            assert again.end(Signals.SIGKILL) == -signal.SIGKILL
    assert wait_for(lambda: list_survivors(second) == [])


def test_killed_while_starting_it_leaves_nothing(folder: Path):
    with run_stack(folder) as running:
        logs = folder / "postgres.log"
        assert wait_for(logs.exists, START_S)
        running.end(Signals.SIGKILL)
    assert wait_for(lambda: not processes_of(folder))


def test_a_request_to_end_cuts_the_start_short(folder: Path):
    with run_stack(folder) as running:
        assert wait_for((folder / "postgres.log").exists, START_S)
        assert running.end(Signals.SIGTERM) == 0
        assert running.wait_for("cut short")
    assert processes_of(folder) == []


def test_a_part_that_ends_is_started_again_and_made_ready_again(folder: Path):
    with run_stack(folder) as running:
        up = running.wait_for("all up")
        for part in ("nats", "postgres", "family"):
            os.kill(up["pids"][part], signal.SIGKILL)
        assert "code -9" in running.wait_for("ended")["detail"]
        running.wait_for("provisioned", "nats")
        running.wait_for("restarted", "postgres")
        # The family's child had moved to a session of its own.
        assert wait_for(lambda: not set(list_survivors(up)) - {up["pids"]["guardian"]})
        assert all(is_listening(port) for port in up["ports"])
        assert running.end(Signals.SIGTERM) == 0


def test_a_killed_guardian_is_replaced(folder: Path):
    with run_stack(folder, "small") as running:
        up = running.wait_for("all up")
        os.kill(up["pids"]["guardian"], signal.SIGKILL)
        assert wait_for(lambda: not is_alive(up["pids"]["guardian"]))
        assert wait_for(lambda: guardian_of(running) is not None)
        time.sleep(0.5)  # it is informed of the parts
        running.end(Signals.SIGKILL)
    assert wait_for(lambda: list_survivors(up) == [])


def test_a_part_that_cannot_start_ends_the_stack_with_its_output(folder: Path):
    with run_stack(folder, "fragile", "small") as running:
        failed = running.wait_for("failed")
        assert failed["reason"] == "PART_NOT_READY"
        assert "fragile ended with code 3" in failed["detail"]
        assert "broken" in failed["detail"]
        assert running.process.wait(START_S) == 0
    assert processes_of(folder) == []


def test_a_part_that_is_not_ready_in_time_fails_with_the_wait_and_its_reason(folder: Path):
    with run_stack(folder, "silent", "small") as running:
        failed = running.wait_for("failed")
        assert failed["reason"] == "PART_NOT_READY"
        assert "silent was not ready after" in failed["detail"]
        assert ": never ready; it wrote nothing to " in failed["detail"]
        assert running.process.wait(START_S) == 0
    assert processes_of(folder) == []


def test_a_part_that_gets_on_has_no_time_limit(folder: Path):
    with run_stack(folder, "climber", "small") as running:
        running.wait_for("up", "climber")
        assert running.wait_for("all up")
        assert running.end(Signals.SIGTERM) == 0


@pytest.mark.parametrize("part", ["nats", "postgres"])
def test_a_part_that_hangs_is_noticed_reported_and_started_again(folder: Path, part: str):
    with run_stack(folder) as running:
        up = running.wait_for("all up")
        os.kill(up["pids"][part], signal.SIGSTOP)
        ended = running.wait_for("ended", part)
        assert "hung: 2 health checks in a row had no answer" in ended["detail"]
        running.wait_for("restarted", part)
        assert not is_alive(up["pids"][part])
        assert running.end(Signals.SIGTERM) == 0


def test_waits_between_restarts_grow_to_a_bound():
    backoff = Backoff(first_s=0.5, longest_s=30)
    assert [backoff.wait_s(n) for n in (1, 2, 3, 7, 8, 10_000)] == [0.5, 1, 2, 30, 30, 30]


def guardian_of(running: SmallStack) -> int | None:
    """The living guardian of a stack, once its program runs."""
    for pid in descendants(running.process.pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"stack.guardian" in line and is_alive(pid):
                return pid
    return None


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_alive(int(entry.name)):
            try:
                line = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if os.fsencode(folder) in line:
                found.append(os.fsdecode(line))
    return found
