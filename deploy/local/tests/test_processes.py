import subprocess
import sys
import time
from pathlib import Path

import pytest

from chassis.base.errors import UnavailableError
from stack.guardian import Guardian
from stack.processes import LOG_BYTES_MAX, Child, Command, run_all
from stack.trees import descendants, is_alive


def shell(folder: Path, script: str, log: str = "log") -> Command:
    return Command(
        argv=("/bin/sh", "-c", script),
        environment={"PATH": "/usr/bin:/bin"},
        folder=folder,
        log=folder / log,
    )


def test_a_child_gets_its_own_environment_and_no_standard_input(folder: Path, guardian: Guardian):
    command = Command(
        argv=(sys.executable, "-c", "import os, sys; print(sorted(os.environ), sys.stdin.read())"),
        environment={"ONLY": "this"},
        folder=folder,
        log=folder / "log",
    )
    run_all([command], guardian, timeout_s=60)
    said = (folder / "log").read_text()
    assert "ONLY" in said
    assert "HOME" not in said
    assert (folder / "log").stat().st_mode & 0o777 == 0o600


def test_no_descriptor_of_ours_reaches_a_child(folder: Path, guardian: Guardian):
    run_all([shell(folder, "ls -l /proc/self/fd")], guardian, timeout_s=60)
    assert "pipe:" not in (folder / "log").read_text()


def test_a_failing_program_is_an_error_with_its_words(folder: Path, guardian: Guardian):
    with pytest.raises(UnavailableError, match=r"ended with code 4:\n.*so sorry") as failed:
        run_all([shell(folder, "echo so sorry; exit 4")], guardian, timeout_s=60)
    assert failed.value.reason == "STEP_FAILED"


def test_a_program_that_is_not_there_is_an_error(folder: Path, guardian: Guardian):
    command = Command(argv=("/no/such",), environment={}, folder=folder, log=folder / "log")
    with pytest.raises(UnavailableError, match="127"):
        run_all([command], guardian, timeout_s=60)


def test_one_failure_ends_the_programs_beside_it(folder: Path, guardian: Guardian):
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="ended with code 1"):
        run_all([shell(folder, "sleep 600"), shell(folder, "exit 1")], guardian, timeout_s=60)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(("timeout_s", "cancelled"), [(0.2, False), (60, True)])
def test_a_program_is_not_waited_for_for_ever(
    folder: Path, guardian: Guardian, timeout_s, cancelled
):
    with pytest.raises(UnavailableError):
        run_all(
            [shell(folder, "sleep 600")], guardian, timeout_s=timeout_s, cancelled=lambda: cancelled
        )


def test_what_a_child_left_behind_in_its_group_ends_with_it(folder: Path, guardian: Guardian):
    child = Child(shell(folder, "sleep 600 & echo $!; sleep 0.3"), guardian)
    while child.exit_code is None:
        time.sleep(0.01)
    orphan = int((folder / "log").read_text())
    deadline = time.monotonic() + 30
    while is_alive(orphan) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(orphan)


def test_a_killed_child_takes_its_descendants_along(folder: Path, guardian: Guardian):
    child = Child(shell(folder, "setsid sleep 600 & wait"), guardian)
    while not descendants(child.pid):
        time.sleep(0.01)
    family = descendants(child.pid)
    child.kill()
    assert child.exit_code == -9
    assert not any(is_alive(pid) for pid in family)


def test_a_long_log_is_put_aside_when_its_program_starts_again(folder: Path, guardian: Guardian):
    log = folder / "log"
    with log.open("wb") as file:
        file.truncate(LOG_BYTES_MAX + 1)
    run_all([shell(folder, "echo new")], guardian, timeout_s=60)
    assert log.read_text() == "new\n"
    assert (folder / "log.1").stat().st_size == LOG_BYTES_MAX + 1


def test_alive_tells_a_running_process_from_one_not_yet_reaped():
    process = subprocess.Popen(["sleep", "60"])
    assert is_alive(process.pid)
    process.kill()
    deadline = time.monotonic() + 30
    while is_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(process.pid)
    process.wait()
