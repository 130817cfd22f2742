"""Requests and answers of `POST /chat/completions`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from chassis.base.errors import InvalidInputError, UnavailableError
from inference.engines.prompt import to_texts
from inference.engines.tool_calls import CallReader, as_text
from inference.generation import (
    Choices,
    FinishReason,
    Generation,
    JsonSchema,
    Message,
    OutputFormat,
    ReasoningDelta,
    Regex,
    Step,
    TextDelta,
    Tool,
    ToolChoice,
    Usage,
)

FINISH_REASONS: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.FILTERED,
}


class Flavour(Enum):
    """Servers that differ in what they understand; told by `owned_by` of their models."""

    VLLM = "vllm"
    LLAMA_CPP = "llamacpp"
    HOSTED = "hosted"
    OTHER = "other"


_FLAVOURS: Final = {
    "vllm": Flavour.VLLM,
    "llamacpp": Flavour.LLAMA_CPP,
    "openai": Flavour.HOSTED,
    "openai-internal": Flavour.HOSTED,
    "system": Flavour.HOSTED,
}


def find_flavour(owner: object) -> Flavour:
    """The flavour of a server whose models have this owner."""
    return _FLAVOURS.get(str(owner), Flavour.OTHER)


def to_body(request: Generation, model: str, flavour: Flavour) -> dict[str, Any]:
    """The body of the request.

    Raises:
        InvalidInputError: CAPABILITY_MISSING, the server has no such form of an answer.
    """
    limit = "max_completion_tokens" if flavour is Flavour.HOSTED else "max_tokens"
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            _to_message(message, text)
            for message, text in zip(request.messages, to_texts(request), strict=True)
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        limit: request.max_output_tokens,
        **request.sampling.given,
    }
    if request.stop:
        body["stop"] = list(request.stop)
    if request.tools:
        choice = request.tool_choice
        # Otherwise vLLM forces the call, but not the form of its arguments.
        strict = flavour is Flavour.VLLM and bool(choice.required or choice.name)
        body["tools"] = [_to_tool(tool, strict=strict) for tool in request.tools]
        body["tool_choice"] = _to_tool_choice(choice)
    if request.output is not None:
        body.update(_to_format(request.output, flavour))
    return body


def _to_message(message: Message, text: str) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role.value, "content": text}
    if message.tool_calls:
        written["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        written["tool_call_id"] = message.tool_call_id
    return written


def _to_tool(tool: Tool, *, strict: bool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.parameters_schema:
        function["parameters"] = json.loads(tool.parameters_schema)
    if strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _to_tool_choice(choice: ToolChoice) -> object:
    if choice.name:
        return {"type": "function", "function": {"name": choice.name}}
    if choice.required:
        return "required"
    return "none" if choice.none else "auto"


def _to_format(output: OutputFormat, flavour: Flavour) -> dict[str, Any]:
    if isinstance(output, JsonSchema):
        schema = {"name": "answer", "schema": json.loads(output.schema), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if flavour is not Flavour.VLLM:
        raise InvalidInputError(
            "CAPABILITY_MISSING",
            "this engine's answers can only have the form of a JSON Schema",
            capability="structured_output",
        )
    match output:
        case Regex():
            return {"structured_outputs": {"regex": output.pattern}}
        case Choices():
            return {"structured_outputs": {"choice": list(output.texts)}}


@dataclass(slots=True)
class AnswerReader:
    """Collects the events of one answer; `finish` is there once they told one."""

    revision: str = ""
    _reason: FinishReason | None = None
    _usage: Usage = field(default_factory=lambda: Usage(input_tokens=0, output_tokens=0))
    _calls: CallReader = field(default_factory=CallReader)

    def read(self, event: Mapping[str, Any]) -> Iterator[Step]:
        """The steps of an event.

        Raises:
            UnavailableError: ENGINE_OUTPUT, the event is none of an answer.
        """
        try:
            yield from self._read(event)
        except (TypeError, AttributeError, KeyError, IndexError, ValueError) as error:
            raise UnavailableError(
                "ENGINE_OUTPUT", "the engine sent an event that is no part of an answer"
            ) from error

    def finish(self) -> Sequence[Step]:
        """The calls of functions and the finish, after the last event.

        Raises:
            UnavailableError: ENGINE_FAILED, the engine gave no reason for the end.
        """
        if self._reason is None:
            raise UnavailableError("ENGINE_FAILED", "the engine's answer was cut off; ask again")
        return self._calls.finish(self._reason, self._usage, self.revision)

    def _read(self, event: Mapping[str, Any]) -> Iterator[Step]:
        self.revision = self.revision or str(event.get("system_fingerprint") or "")
        if usage := event.get("usage"):
            details = usage.get("prompt_tokens_details") or {}
            self._usage = Usage(
                input_tokens=int(usage["prompt_tokens"]),
                output_tokens=int(usage.get("completion_tokens") or 0),
                cached_input_tokens=int(details.get("cached_tokens") or 0),
            )
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            # Two names of the same; llama.cpp and vLLM have had both.
            if thought := delta.get("reasoning_content") or delta.get("reasoning"):
                yield ReasoningDelta(as_text(thought))
            if text := delta.get("content"):
                yield TextDelta(as_text(text))
            for call in delta.get("tool_calls") or ():
                self._calls.add(call)
            if reason := choice.get("finish_reason"):
                self._reason = FINISH_REASONS.get(reason, FinishReason.STOP)
