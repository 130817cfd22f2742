"""What a conversation must be to reach an engine."""

import pytest

from chassis.base.errors import InvalidInputError
from inference.generation import (
    Choices,
    Generation,
    JsonSchema,
    Message,
    Passage,
    Regex,
    Role,
    Sampling,
    Tool,
    ToolCall,
    ToolChoice,
)

USER = Message(role=Role.USER, parts=["why"])
SYSTEM = Message(role=Role.SYSTEM, parts=["be brief"])
CALLED = Message(
    role=Role.ASSISTANT, tool_calls=[ToolCall(id="c1", name="weather", arguments="{}")]
)
RESULT = Message(role=Role.TOOL, parts=["rain"], tool_call_id="c1")


def request(*messages: Message, **more) -> Generation:
    settings = {"max_output_tokens": 10} | more
    return Generation(model="", messages=messages or [USER], **settings)


def shown(*texts: str, title: str = "") -> Message:
    block = tuple(Passage(text=text, title=title) for text in texts)
    return Message(role=Role.USER, parts=[block, "why"])


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [SYSTEM, USER],
        [SYSTEM, USER, CALLED, RESULT],
        [USER, Message(role=Role.ASSISTANT, parts=["because"]), USER],
        [shown(*["x"] * 64)],
        [Message(role=Role.USER, parts=[(Passage(text="x"),)])],
    ],
)
def test_conversations_within_the_limits_are_taken(messages):
    assert list(request(*messages).messages) == messages


@pytest.mark.parametrize(
    "messages",
    [
        [SYSTEM],
        [USER, SYSTEM, USER],
        [USER, Message(role=Role.ASSISTANT, parts=["because"])],
        [Message(role=Role.USER)],
        [Message(role=Role.USER, parts=[" \n"])],
        [Message(role=Role.USER, parts=[()])],
        [Message(role=Role.USER, parts=["a\x00b"])],
        [shown("a\x00b")],
        [Message(role=Role.TOOL, parts=["rain"])],
        [Message(role=Role.USER, parts=["why"], tool_call_id="c1")],
        [Message(role=Role.USER, parts=["why"], tool_calls=CALLED.tool_calls)],
        [USER] * 257,
    ],
)
def test_a_conversation_of_another_form_is_refused(messages):
    with pytest.raises(InvalidInputError) as refused:
        request(*messages)
    assert refused.value.reason == "MESSAGES_INVALID"
    assert refused.value.fields


@pytest.mark.parametrize(
    ("messages", "more", "reason"),
    [
        ([shown(*["x"] * 65)], {}, "PASSAGE_COUNT"),
        ([shown("x", "")], {}, "TEXT_LENGTH"),
        ([shown("x" * 8_193)], {}, "TEXT_LENGTH"),
        ([shown("x", title="x" * 1_025)], {}, "TEXT_LENGTH"),
        ([Message(role=Role.USER, parts=["x" * 2_000_001])], {}, "TEXT_LENGTH"),
        ([USER], {"max_output_tokens": 0}, "OUTPUT_TOKENS_RANGE"),
        ([USER], {"max_output_tokens": -3}, "OUTPUT_TOKENS_RANGE"),
        ([USER], {"stop": [""]}, "STOP_INVALID"),
        ([USER], {"stop": ["x"] * 9}, "STOP_INVALID"),
        ([USER], {"tools": [Tool(name="a"), Tool(name="a")]}, "TOOLS_INVALID"),
        ([USER], {"tool_choice": ToolChoice(required=True)}, "TOOLS_INVALID"),
        ([USER], {"tools": [Tool(name="a")], "tool_choice": ToolChoice(name="b")}, "TOOLS_INVALID"),
    ],
)
def test_what_is_beyond_the_limits_is_refused(messages, more, reason):
    with pytest.raises(InvalidInputError) as refused:
        request(*messages, **more)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Sampling(temperature=-0.1), "SAMPLING_RANGE"),
        (lambda: Sampling(temperature=float("nan")), "SAMPLING_RANGE"),
        (lambda: Sampling(top_p=0.0), "SAMPLING_RANGE"),
        (lambda: Sampling(top_p=1.1), "SAMPLING_RANGE"),
        (lambda: Sampling(top_k=0), "SAMPLING_RANGE"),
        (lambda: Sampling(presence_penalty=3), "SAMPLING_RANGE"),
        (lambda: JsonSchema("{"), "OUTPUT_FORMAT_INVALID"),
        (lambda: JsonSchema("[]"), "OUTPUT_FORMAT_INVALID"),
        (lambda: JsonSchema("[" * 100_000), "OUTPUT_FORMAT_INVALID"),
        (lambda: Regex("("), "OUTPUT_FORMAT_INVALID"),
        (lambda: Regex(""), "OUTPUT_FORMAT_INVALID"),
        (lambda: Regex("x" * 5_000), "OUTPUT_FORMAT_INVALID"),
        (lambda: Choices([]), "OUTPUT_FORMAT_INVALID"),
        (lambda: Choices(["a", "a"]), "OUTPUT_FORMAT_INVALID"),
        (lambda: Choices([""]), "OUTPUT_FORMAT_INVALID"),
        (lambda: Tool(name="with blank"), "TOOLS_INVALID"),
        (lambda: Tool(name="a", parameters_schema="no JSON"), "TOOLS_INVALID"),
    ],
)
def test_options_that_cannot_be_are_refused(make, reason):
    with pytest.raises(InvalidInputError) as refused:
        make()
    assert refused.value.reason == reason
    assert refused.value.fields


def test_passages_are_numbered_over_all_messages():
    block = (Passage(text="first"), Passage(text="second"))
    asked = request(
        Message(role=Role.USER, parts=[block, "one"]),
        Message(role=Role.ASSISTANT, parts=["because"]),
        Message(role=Role.USER, parts=["two", (Passage(text="third"),), "three"]),
    )
    assert [passage.text for passage in asked.passages] == ["first", "second", "third"]
    assert asked.question == "two\nthree"
