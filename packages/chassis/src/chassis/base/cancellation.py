"""Restores a cancellation that a library has swallowed."""

import asyncio


def raise_if_cancelled() -> None:
    """Raises CancelledError if the current task was cancelled and the exception got lost.

    In Python 3.11 `asyncio.wait_for`, which psycopg's pool and nats-py use, can swallow a
    cancellation. The task would then continue, and code that waits for its end would hang.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
