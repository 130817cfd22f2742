"""What a model writes of functions and of its reasoning, by a model that writes set texts."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio

from chassis.base.errors import FailedPreconditionError
from inference.engine_settings import EngineSettings
from inference.engines.admission import Admission
from inference.engines.vllm.chat import Chat
from inference.engines.vllm.model import VllmModel, open_models
from inference.generation import (
    Choices,
    FinishReason,
    ReasoningDelta,
    Tool,
    ToolCall,
    ToolChoice,
)
from services.inference.tests.generations import ask, said
from tests.vllm.conftest import ARGUMENTS, TOOL_PARSER
from tests.vllm.scripted_model import BREAKS, CALLS, make_scripted_model

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

NOTE = Tool(name="note", parameters_schema='{"type": "object"}')
THOUGHT = "It wants a note."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def thinker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmModel]:
    """An engine that knows both parsers."""
    folder = make_scripted_model(tmp_path_factory.mktemp("models") / "scripted")
    settings = EngineSettings(
        engine="vllm",
        model=str(folder),
        arguments=ARGUMENTS,
        tool_parser=TOOL_PARSER,
        reasoning_parser="qwen3",
    )
    async with open_models(settings) as [model]:
        yield model


def with_parsers(model: VllmModel, **parsers: str) -> VllmModel:
    """The same engine, its answers read by other parsers."""
    engine = model._engine
    return VllmModel(engine, Chat(engine, **parsers), model.card, Admission("scripted", 8))


async def read(model, request) -> list:
    async with aclosing(model.generate(request)) as steps:
        return [step async for step in steps]


def thought(steps) -> str:
    return "".join(step.text for step in steps if isinstance(step, ReasoningDelta))


async def test_reasoning_comes_first_and_a_call_last(thinker):
    *steps, call, finish = await read(thinker, ask("calls", tools=[NOTE]))
    assert thought(steps) == THOUGHT
    assert said(steps).strip() == "Noted."
    assert isinstance(steps[0], ReasoningDelta)
    assert (call.name, json.loads(call.arguments)) == ("note", {"deep": True})
    assert call.id
    assert finish.reason is FinishReason.TOOL_CALLS
    # What it thought counts, and so does the end.
    assert finish.usage.output_tokens == len(CALLS) - 1


async def test_without_parsers_all_of_it_is_text(thinker):
    *steps, finish = await read(with_parsers(thinker), ask("calls"))
    assert said(steps) == "".join(CALLS[1:-1])
    assert finish.reason is FinishReason.STOP


async def test_no_function_is_called_where_none_may_be(thinker):
    request = ask("calls", tools=[NOTE], tool_choice=ToolChoice(none=True))
    *steps, finish = await read(thinker, request)
    assert thought(steps) == THOUGHT
    assert said(steps).startswith("Noted. ")
    assert not [step for step in steps if isinstance(step, ToolCall)]
    assert finish.reason is FinishReason.STOP


async def test_a_form_binds_the_answer_but_not_the_reasoning(thinker):
    steps = await read(thinker, ask("calls", output=Choices(["deep", "shallow"])))
    assert thought(steps) == THOUGHT
    assert said(steps) in {"deep", "shallow"}


async def test_a_call_that_has_to_be_comes_after_the_reasoning(thinker):
    request = ask("calls", tools=[NOTE], tool_choice=ToolChoice(name="note"), max_output_tokens=64)
    steps = await read(thinker, request)
    assert thought(steps) == THOUGHT
    assert [step.name for step in steps if isinstance(step, ToolCall)] == ["note"]


async def test_a_broken_call_does_not_break_the_answer(thinker):
    calling = with_parsers(thinker, tool_parser=TOOL_PARSER)
    *steps, finish = await read(calling, ask("breaks", tools=[NOTE]))
    assert said(steps).startswith("Oh. ")
    assert finish.usage.output_tokens == len(BREAKS) - 1


@pytest.mark.parametrize("unread", [0, 2])
async def test_what_a_parser_fails_on_is_text(thinker, monkeypatch, unread):
    calling = with_parsers(thinker, tool_parser=TOOL_PARSER)
    parser = calling._chat._renderer.parser
    parse, seen = parser.parse_delta, []

    def fail(self, *args, **more):
        seen.append(args)
        if len(seen) > unread:
            raise IndexError("the text of a model")
        return parse(self, *args, **more)

    monkeypatch.setattr(parser, "parse_delta", fail)
    *steps, finish = await read(calling, ask("calls", tools=[NOTE]))
    assert said(steps) == "".join(CALLS[1:-1])
    assert len(seen) == unread + 1
    assert finish.reason is FinishReason.STOP


async def test_a_parser_that_does_not_fit_the_model_is_refused(thinker):
    with pytest.raises(FailedPreconditionError) as refused:
        Chat(thinker._engine, tool_parser="deepseek_v3")
    assert refused.value.reason == "ENGINE_ARGUMENTS"
