"""Reads an answer's stream of events: what breaks its rules is an error, never text."""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx2

from chassis.base.errors import UnavailableError

_DONE: Final = "[DONE]"


async def read_events(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    """The object of each event; an event has at most 1 MiB, and the last one is `[DONE]`.

    Raises:
        UnavailableError: ENGINE_OUTPUT, it is no stream of events, or one is too long or no JSON
            object; ENGINE_FAILED, the stream ends without `[DONE]`.
    """
    try:
        async for event in httpx2.EventSource(response):
            if event.data == _DONE:
                return
            yield _read_object(event.data)
    except httpx2.SSEError as error:
        raise UnavailableError("ENGINE_OUTPUT", f"the engine's answer: {error}") from error
    raise UnavailableError("ENGINE_FAILED", "the engine's answer was cut off; ask again")


def _read_object(value: str) -> dict[str, Any]:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnavailableError("ENGINE_OUTPUT", "the engine sent an event that is no JSON object")
    return found
