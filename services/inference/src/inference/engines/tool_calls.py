"""Calls of functions, which a model writes bit by bit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from inference.generation import Finish, FinishReason, Step, ToolCall, Usage

# A model that calls more functions at once has lost its way.
TOOL_CALLS_MAX: Final = 128


@dataclass(slots=True)
class CallReader:
    """Collects the calls of one answer."""

    _calls: dict[int, dict[str, str]] = field(default_factory=dict)

    def add(self, piece: Mapping[str, Any]) -> None:
        """A piece of a call, as an entry of `tool_calls` in OpenAI's events.

        Raises:
            TypeError, AttributeError, ValueError: it is no such piece.
        """
        number = int(piece.get("index") or 0)
        if not 0 <= number < TOOL_CALLS_MAX:
            raise ValueError(number)
        known = self._calls.setdefault(number, {"id": "", "name": "", "arguments": ""})
        function = piece.get("function") or {}
        known["id"] = known["id"] or as_text(piece.get("id") or "")
        known["name"] = known["name"] or as_text(function.get("name") or "")
        known["arguments"] += as_text(function.get("arguments") or "")

    def finish(self, reason: FinishReason, usage: Usage, revision: str = "") -> Sequence[Step]:
        """The last steps of an answer: its calls, and its end."""
        calls = [
            ToolCall(id=one["id"], name=one["name"], arguments=one["arguments"])
            for _, one in sorted(self._calls.items())
        ]
        # Some engines say `stop` though the model called a function.
        if calls and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        return [*calls, Finish(reason=reason, usage=usage, revision=revision)]


def as_text(value: object) -> str:
    """A text that can be sent on; an engine may send half of a surrogate pair.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(value, str):
        raise TypeError(value)
    return value.encode("utf-8", "replace").decode()
