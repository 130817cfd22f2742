"""Cancellation that a library has swallowed."""

import asyncio


def raise_if_cancelled() -> None:
    """Raises the cancellation that was requested of the current task and got lost.

    `asyncio.wait_for`, which psycopg's pool and nats-py use, can swallow one in Python 3.11: the
    task would go on, and whoever waits for its end would wait for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
