"""Signals end a command in good order, unless they are to be ignored."""

import os
import signal
import subprocess
import sys

import pytest

WORK = """
import asyncio, os, signal, sys
from aquifer_cli.interrupts import run_async

{before}

async def work():
    try:
        os.kill(os.getpid(), {number})
        await asyncio.sleep({pause_s})
        print("went on", flush=True)
    finally:
        print("cleaned up", flush=True)

run_async(work())
"""


def ran(number: int, *, before: str = "", pause_s: float = 30) -> tuple[int, str]:
    code = WORK.format(number=number, before=before, pause_s=pause_s)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_the_work_and_is_the_exit_code(number):
    assert ran(number) == (128 + number, "cleaned up\n")


def test_ctrl_c_cancels_the_work():
    # A job in the background of a shell inherits that Ctrl-C is ignored.
    before = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    code, out = ran(signal.SIGINT, before=before)
    assert out == "cleaned up\n"
    assert code in (-signal.SIGINT, 1)


def test_a_signal_that_is_ignored_stays_so():
    """As under `nohup`, which outlives its terminal."""
    before = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    assert ran(signal.SIGHUP, before=before, pause_s=0.2) == (0, "went on\ncleaned up\n")


def test_handlers_are_as_before_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    code = "from aquifer_cli.interrupts import run_async\nimport asyncio, signal\n"
    code += "run_async(asyncio.sleep(0))\nassert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL"
    subprocess.run([sys.executable, "-c", code], env=dict(os.environ), timeout=60, check=True)
    assert signal.getsignal(signal.SIGTERM) == before
