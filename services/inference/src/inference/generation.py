"""Conversations to continue and the steps of an answer, and their validation."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum

from chassis.base.errors import FieldViolation, InvalidInputError
from inference.domain import TEXT_MAX_CHARS, Lane

MESSAGES_MAX = 256
CONVERSATION_MAX_CHARS = 2_000_000
PASSAGES_MAX = 64
TITLE_MAX_CHARS = 1_024
STOPS_MAX = 8
STOP_MAX_CHARS = 128
SCHEMA_MAX_CHARS = 65_536
REGEX_MAX_CHARS = 4_096
CHOICES_MAX = 256
CHOICE_MAX_CHARS = 1_024
TOOLS_MAX = 64
OUTPUT_TOKENS_MAX = 1_000_000

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Role(Enum):
    """Who a message is from."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A part of a document that an answer may cite."""

    text: str
    title: str = ""


PassageBlock = tuple[Passage, ...]
"""Passages as a part of a message."""

Part = str | PassageBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a function by the model; `arguments` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of a conversation; see `generation.proto`."""

    role: Role
    parts: Sequence[Part] = ()
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str = ""

    @property
    def text(self) -> str:
        """Its parts that are text, without passages."""
        return "\n".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn; None: as the model's publisher recommends."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "temperature": (0, 2),
            "top_k": (1, 1_000_000),
            "frequency_penalty": (-2, 2),
            "presence_penalty": (-2, 2),
        }
        bad = [
            FieldViolation(f"sampling.{name}", f"{low} to {high}")
            for name, (low, high) in limits.items()
            # Written as a negation so that NaN is refused too.
            if (value := getattr(self, name)) is not None and not low <= value <= high
        ]
        if self.top_p is not None and not 0 < self.top_p <= 1:
            bad.append(FieldViolation("sampling.top_p", "above 0, at most 1"))
        if bad:
            names = ", ".join(one.field for one in bad)
            raise InvalidInputError("SAMPLING_RANGE", f"{names} out of range", fields=bad)

    @property
    def given(self) -> Mapping[str, float | int]:
        """What is set, under the names that engines use as well."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The answer is JSON that is valid under this JSON Schema."""

    schema: str

    def __post_init__(self) -> None:
        _read_schema("output.json_schema", self.schema, "OUTPUT_FORMAT_INVALID")


@dataclass(frozen=True, slots=True)
class Regex:
    """This regular expression matches the whole answer."""

    pattern: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
            why = "" if self.pattern else "is empty"
        except (re.error, OverflowError, RecursionError) as error:
            why = f"is no regular expression: {error}"
        if len(self.pattern) > REGEX_MAX_CHARS:
            why = f"is longer than {REGEX_MAX_CHARS} characters"
        if why:
            raise _invalid("OUTPUT_FORMAT_INVALID", "output.regex", why)


@dataclass(frozen=True, slots=True)
class Choices:
    """The answer is one of these texts."""

    texts: Sequence[str]

    def __post_init__(self) -> None:
        good = all(0 < len(text) <= CHOICE_MAX_CHARS for text in self.texts)
        if not (good and 0 < len(set(self.texts)) == len(self.texts) <= CHOICES_MAX):
            raise _invalid(
                "OUTPUT_FORMAT_INVALID",
                "output.choices",
                f"must be 1 to {CHOICES_MAX} different texts of 1 to {CHOICE_MAX_CHARS} characters",
            )


OutputFormat = JsonSchema | Regex | Choices


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call; `parameters_schema` is JSON, empty if it has none."""

    name: str
    description: str = ""
    parameters_schema: str = ""

    def __post_init__(self) -> None:
        if not _TOOL_NAME.fullmatch(self.name):
            raise _invalid("TOOLS_INVALID", "tools.name", f"must match {_TOOL_NAME.pattern}")
        if self.parameters_schema:
            _read_schema("tools.parameters_schema", self.parameters_schema, "TOOLS_INVALID")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Whether the model calls functions: as it decides, none, at least one, or the one named."""

    none: bool = False
    required: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A conversation to continue with the model named; see `GenerateRequest`.

    `tenant` is whose it is: engines that are full serve tenants in turn.
    """

    model: str
    messages: Sequence[Message]
    max_output_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop: Sequence[str] = ()
    output: OutputFormat | None = None
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    lane: Lane = Lane.INTERACTIVE
    tenant: str = ""

    def __post_init__(self) -> None:
        _check_messages(self.messages)
        _check_passages(self.passages)
        if not 0 < self.max_output_tokens <= OUTPUT_TOKENS_MAX:
            raise _invalid(
                "OUTPUT_TOKENS_RANGE", "max_output_tokens", f"must be 1 to {OUTPUT_TOKENS_MAX}"
            )
        if len(self.stop) > STOPS_MAX or not all(
            0 < len(one) <= STOP_MAX_CHARS for one in self.stop
        ):
            raise _invalid(
                "STOP_INVALID",
                "stop",
                f"must be at most {STOPS_MAX} texts of 1 to {STOP_MAX_CHARS} characters",
            )
        _check_tools(self.tools, self.tool_choice)

    @property
    def passages(self) -> Sequence[Passage]:
        """The passages of all messages; citations refer to their place here."""
        return [
            passage
            for message in self.messages
            for part in message.parts
            if not isinstance(part, str)
            for passage in part
        ]

    @property
    def question(self) -> str:
        """The text of the last message of the user, without passages."""
        asked = (one.text for one in reversed(self.messages) if one.role is Role.USER)
        return next(asked, "")


class FinishReason(Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    NO_ANSWER = "no_answer"
    TOOL_CALLS = "tool_calls"
    FILTERED = "filtered"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The next piece of what the model thinks, which is not part of the answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CitationMark:
    """The text before it has this passage as its source; `span` if it repeats it verbatim."""

    passage: int
    marker: str
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens read and written, counted by the model's own tokenizer."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The end of an answer, sent once as the last step.

    `support` in [0, 1] is the calibrated probability that the passages support an answer; None if
    the model gives none. `revision` is that of the weights, empty if the engine does not tell.
    """

    reason: FinishReason
    usage: Usage
    revision: str = ""
    support: float | None = None


Step = TextDelta | ReasoningDelta | CitationMark | ToolCall | Finish


def _check_messages(messages: Sequence[Message]) -> None:
    if not 0 < len(messages) <= MESSAGES_MAX:
        raise _invalid("MESSAGES_INVALID", "messages", f"must be 1 to {MESSAGES_MAX} messages")
    for number, (message, why) in enumerate(zip(messages, _faults(messages), strict=True)):
        if why:
            raise _invalid("MESSAGES_INVALID", f"messages[{number}]", why)
        if any("\x00" in text for text in _texts(message)):
            raise _invalid(
                "MESSAGES_INVALID", f"messages[{number}]", "must not have the character NUL"
            )
    if messages[-1].role not in {Role.USER, Role.TOOL}:
        raise _invalid("MESSAGES_INVALID", "messages", "must end with the user or a tool")
    if sum(len(text) for message in messages for text in _texts(message)) > CONVERSATION_MAX_CHARS:
        raise InvalidInputError(
            "TEXT_LENGTH",
            f"a conversation must have at most {CONVERSATION_MAX_CHARS} characters",
            fields=[FieldViolation("messages", f"at most {CONVERSATION_MAX_CHARS} characters")],
            max_chars=CONVERSATION_MAX_CHARS,
        )


def _faults(messages: Sequence[Message]) -> Iterator[str]:
    """What is wrong with the form of each message; empty if nothing is."""
    for number, message in enumerate(messages):
        if message.role is Role.SYSTEM and number:
            yield "instructions are only allowed as the first message"
        elif message.tool_calls and message.role is not Role.ASSISTANT:
            yield "only the model calls functions"
        elif bool(message.tool_call_id) != (message.role is Role.TOOL):
            yield "a message with role TOOL, and no other, needs the id of the call it answers"
        elif not message.tool_calls and not any(
            part.strip() if isinstance(part, str) else part for part in message.parts
        ):
            yield "must have text that is not only white space, or passages"
        else:
            yield ""


def _texts(message: Message) -> Iterator[str]:
    for part in message.parts:
        if isinstance(part, str):
            yield part
        else:
            for passage in part:
                yield passage.text
                yield passage.title
    for call in message.tool_calls:
        yield call.arguments


def _check_passages(passages: Sequence[Passage]) -> None:
    if len(passages) > PASSAGES_MAX:
        raise InvalidInputError(
            "PASSAGE_COUNT",
            f"a request may have at most {PASSAGES_MAX} passages, not {len(passages)}",
            fields=[FieldViolation("messages.parts.passages", f"at most {PASSAGES_MAX}")],
            max_passages=PASSAGES_MAX,
            passages=len(passages),
        )
    for number, passage in enumerate(passages):
        if not 0 < len(passage.text) <= TEXT_MAX_CHARS or len(passage.title) > TITLE_MAX_CHARS:
            raise InvalidInputError(
                "TEXT_LENGTH",
                f"passage {number} must have 1 to {TEXT_MAX_CHARS} characters,"
                f" and a title of at most {TITLE_MAX_CHARS}",
                fields=[FieldViolation("messages.parts.passages", f"passage {number}")],
                max_chars=TEXT_MAX_CHARS,
            )


def _check_tools(tools: Sequence[Tool], choice: ToolChoice) -> None:
    names = {tool.name for tool in tools}
    if len(tools) > TOOLS_MAX or len(names) < len(tools):
        raise _invalid(
            "TOOLS_INVALID", "tools", f"must be at most {TOOLS_MAX}, with different names"
        )
    if (choice.required and not tools) or (choice.name and choice.name not in names):
        raise _invalid("TOOLS_INVALID", "tool_choice", "must name a function of `tools`")


def _read_schema(name: str, schema: str, reason: str) -> None:
    """Check that a text can be a JSON Schema; what is in it is the engine's to check."""
    try:
        is_schema = isinstance(json.loads(schema), dict)
    except (ValueError, RecursionError):
        is_schema = False
    if not is_schema or len(schema) > SCHEMA_MAX_CHARS:
        why = f"must be a JSON Schema: a JSON object of at most {SCHEMA_MAX_CHARS} characters"
        raise _invalid(reason, name, why)


def _invalid(reason: str, name: str, why: str) -> InvalidInputError:
    return InvalidInputError(reason, f"{name} {why}", fields=[FieldViolation(name, why)])
