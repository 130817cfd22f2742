"""Signals that end a command: they cancel its work, which then stops in good order."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

# A kill from outside, and a terminal that closes; Ctrl-C is asyncio's own.
ENDING = (signal.SIGTERM, signal.SIGHUP)


def list_signals() -> list[signal.Signals]:
    """The signals of `ENDING` that this process does not ignore, as under `nohup`."""
    return [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` in an event loop of its own; a signal cancels it and is raised after its end.

    Raises:
        KeyboardInterrupt: after SIGINT.
        SystemExit: after SIGTERM or SIGHUP, with 128 and the number.
    """
    ended_by: list[int] = []

    async def cancel_on_signal() -> T:
        task = asyncio.current_task()
        assert task is not None, "this runs in a task"

        def end(number: int) -> None:
            ended_by.append(number)
            task.cancel()

        for number in before:
            asyncio.get_running_loop().add_signal_handler(number, end, number)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return await work

    before = {number: signal.getsignal(number) for number in list_signals()}
    # A signal that came while the loop is made would leave it half made.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *ENDING})
    try:
        return asyncio.run(cancel_on_signal())
    except asyncio.CancelledError:
        if ended_by:
            sys.exit(128 + ended_by[0])
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
