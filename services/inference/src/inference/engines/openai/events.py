"""Reads a stream of server-sent events strictly: what breaks its rules is an error, never text.

Only what OpenAI-compatible servers send is accepted: `data:` lines with one JSON object each, then
`data: [DONE]`; comments and other fields are skipped, as the standard says (WHATWG, 9.2.6).
"""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

from chassis.base.errors import UnavailableError

# A server that never ends a line must not fill the memory.
LINE_MAX_BYTES: Final = 1 << 20
_DONE: Final = "[DONE]"


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The object of each event; ends with `[DONE]`.

    Raises:
        UnavailableError: ENGINE_OUTPUT, an event is no JSON object, or a line is too long;
            ENGINE_FAILED, the stream ends without `[DONE]`.
    """
    async for line in _lines(chunks):
        name, _, value = line.partition(":")
        if name != "data":
            continue
        value = value.removeprefix(" ")
        if value == _DONE:
            return
        yield _read_object(value)
    raise UnavailableError("ENGINE_FAILED", "the engine's answer was cut off; ask again")


def _read_object(value: str) -> dict[str, Any]:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise _unreadable("an event that is no JSON") from error
    if not isinstance(found, dict):
        raise _unreadable("an event that is no JSON object")
    return found


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Lines without their ends; the last one may lack its end."""
    rest = b""
    async for chunk in chunks:
        *complete, rest = (rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        if len(rest) > LINE_MAX_BYTES:
            raise _unreadable(f"a line of more than {LINE_MAX_BYTES} bytes")
        for line in complete:
            yield _decode(line)
    if rest:
        yield _decode(rest)


def _decode(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise _unreadable("text that is not UTF-8") from error


def _unreadable(what: str) -> UnavailableError:
    return UnavailableError("ENGINE_OUTPUT", f"the engine sent {what}")
