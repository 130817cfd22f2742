"""What only the real vLLM shows: aborts, forms of answers, limits, spans, its death."""

import asyncio
import json
import re
import time
from contextlib import aclosing

import httpx
import pytest

from chassis.base.errors import FailedPreconditionError, InvalidInputError, OverloadedError
from inference.domain import Capability
from inference.engine_settings import EngineSettings
from inference.engines.vllm.model import open_models
from inference.engines.vllm.process import report_on
from inference.generation import (
    Choices,
    Finish,
    FinishReason,
    Generation,
    JsonSchema,
    Message,
    Regex,
    Role,
    Sampling,
    Tool,
    ToolCall,
    ToolChoice,
)
from services.inference.tests.generations import ask, said
from tests.vllm.conftest import until
from tests.vllm.tiny_model import CONTEXT_TOKENS

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

WARM = Sampling(temperature=1.0, seed=3)
ABORT_S = 2.0
DEEP = {"type": "object", "properties": {"deep": {"enum": [True]}}, "required": ["deep"]}
NOTE = Tool(name="note", parameters_schema=json.dumps(DEEP))


async def read(model, request) -> list:
    async with aclosing(model.generate(request)) as steps:
        return [step async for step in steps]


def count_running(request: pytest.FixtureRequest, model) -> float:
    """The running requests, by the engine's own gauge."""
    if model.card.engine == "vllm":
        return model._engine.output_processor.get_num_unfinished_requests()
    url = request.getfixturevalue("server_url").removesuffix("/v1")
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    return sum(
        map(float, re.findall(r"^vllm:num_requests_running\{.*\} (\S+)$", text, re.MULTILINE))
    )


async def test_a_caller_who_leaves_ends_the_work_of_the_engine(request, model):
    async with aclosing(model.generate(ask("Hello.", max_output_tokens=900))) as steps:
        await anext(steps)
        await until(lambda: count_running(request, model) == 1)
        left_s = time.monotonic()
    await until(lambda: count_running(request, model) == 0)
    assert time.monotonic() - left_s < ABORT_S


@pytest.mark.parametrize(
    ("output", "is_right"),
    [
        (Choices(["yes", "no"]), lambda text: text in {"yes", "no"}),
        (Regex("[a-c]{3}[0-9]{2}"), lambda text: re.fullmatch("[a-c]{3}[0-9]{2}", text)),
        (
            JsonSchema('{"enum": [{"deep": true}, {"deep": false}]}'),
            lambda text: json.loads(text)["deep"] in {True, False},
        ),
    ],
)
async def test_an_answer_has_the_form_asked_for(model, output, is_right):
    steps = await read(model, ask("Is it deep?", output=output, sampling=WARM))
    assert is_right(said(steps)), said(steps)


async def test_a_schema_that_the_engine_cannot_read_is_refused(model):
    output = JsonSchema('{"type": "no such type"}')
    with pytest.raises(InvalidInputError) as refused:
        await read(model, ask("Is it deep?", output=output))
    assert refused.value.reason == "REQUEST_REFUSED"
    assert isinstance((await read(model, ask("Hello.")))[-1], Finish)


@pytest.mark.parametrize("words", [CONTEXT_TOKENS, 400_000])
async def test_a_prompt_longer_than_the_context_is_refused(model, words):
    with pytest.raises(InvalidInputError) as refused:
        await read(model, ask("well " * words))
    assert refused.value.reason == "PROMPT_TOO_LONG"
    assert isinstance((await read(model, ask("Hello.")))[-1], Finish)


async def test_the_bound_and_the_seed_are_kept(model):
    request = ask("Hello.", max_output_tokens=7, sampling=WARM)
    first, second = await read(model, request), await read(model, request)
    assert first[-1].reason is FinishReason.LENGTH
    assert first[-1].usage.output_tokens == 7
    assert said(first) == said(second)


async def test_a_stop_text_ends_the_answer_and_is_not_in_it(model):
    request = ask("Hello.", max_output_tokens=60, sampling=WARM)
    text = said(await read(model, request))
    stop = text[len(text) // 2 :][:2]
    cut = await read(model, ask("Hello.", max_output_tokens=60, sampling=WARM, stop=[stop]))
    assert said(cut) == text[: text.index(stop)]
    assert cut[-1].reason is FinishReason.STOP


async def test_tokens_are_counted_as_the_model_reads_them(model):
    [alone] = await model.count(["The well is deep."])
    finish = (await read(model, ask("The well is deep.")))[-1]
    # The template adds the roles, and the end of the message.
    assert finish.usage.input_tokens == alone + 3


@pytest.mark.parametrize("choice", [ToolChoice(name="note"), ToolChoice(required=True)])
async def test_a_function_is_called_where_one_has_to_be(model, choice):
    assert Capability.TOOLS in model.card.capabilities
    steps = await read(model, ask("Is it deep?", tools=[NOTE], tool_choice=choice, sampling=WARM))
    calls = [step for step in steps if isinstance(step, ToolCall)]
    assert calls
    assert {call.name for call in calls} == {"note"}
    assert all(call.id for call in calls)
    assert json.loads(calls[0].arguments) == {"deep": True}
    if choice.name:
        assert len(calls) == 1
        assert steps[-1].reason is FinishReason.TOOL_CALLS
    assert not said(steps).strip()


@pytest.mark.parametrize("choice", [ToolChoice(), ToolChoice(none=True)])
async def test_nonsense_is_no_call_of_a_function(model, choice):
    request = ask("Is it deep?", tools=[NOTE], tool_choice=choice, max_output_tokens=40)
    *steps, finish = await read(model, request)
    assert said(steps)
    assert not [step for step in steps if isinstance(step, ToolCall)]
    assert finish.reason in {FinishReason.LENGTH, FinishReason.STOP}


async def test_the_result_of_a_function_is_read(model):
    call = ToolCall(id="call-1", name="note", arguments='{"deep": true}')
    messages = [
        Message(role=Role.USER, parts=["Is it deep?"]),
        Message(role=Role.ASSISTANT, tool_calls=[call]),
        Message(role=Role.TOOL, parts=["It is noted."], tool_call_id="call-1"),
    ]
    request = Generation(model="", messages=messages, tools=[NOTE], max_output_tokens=8)
    assert isinstance((await read(model, request))[-1], Finish)


async def test_a_function_that_the_engine_cannot_read_is_refused(model):
    tool = Tool(name="note", parameters_schema='{"type": "no such type"}')
    request = ask("Is it deep?", tools=[tool], tool_choice=ToolChoice(name="note"))
    with pytest.raises(InvalidInputError) as refused:
        await read(model, request)
    assert refused.value.reason == "REQUEST_REFUSED"
    assert isinstance((await read(model, ask("Hello.")))[-1], Finish)


async def test_seeds_of_many_long_prompts_at_once_do_not_end_the_engine(engine):
    requests = [
        ask(f"{n} {'well ' * 300}", sampling=Sampling(temperature=1.0, seed=n), max_output_tokens=8)
        for n in range(24)
    ]
    done = await asyncio.gather(*(read(engine, request) for request in requests))
    assert all(isinstance(steps[-1], Finish) for steps in done)


async def test_more_calls_than_may_wait_are_refused(engine):
    # None may end before the last one has come, so the model must not end where it likes.
    more = {"output": Regex("[a-c]{240}"), "max_output_tokens": 300}
    requests = [ask(f"Hello {n}.", tenant=f"tenant {n % 3}", **more) for n in range(32 * 5 + 3)]
    done = await asyncio.gather(
        *(read(engine, request) for request in requests), return_exceptions=True
    )
    refused = [one for one in done if isinstance(one, OverloadedError)]
    assert {one.reason for one in refused} == {"ENGINE_BUSY"}
    assert len(refused) == 3
    assert all(isinstance(one[-1], Finish) for one in done if not isinstance(one, Exception))


async def test_the_span_of_the_engine_is_a_child_of_ours(engine, spans):
    spans.clear()
    await read(engine, ask("Hello."))
    await until(lambda: len(spans.get_finished_spans()) == 2)
    by_name = {span.name: span for span in spans.get_finished_spans()}
    ours, theirs = by_name["chat tiny"], by_name["llm_request"]
    assert theirs.parent.span_id == ours.context.span_id
    assert theirs.context.trace_id == ours.context.trace_id
    assert theirs.attributes["gen_ai.usage.prompt_tokens"] > 0


async def test_the_engine_tells_what_it_runs_on(engine):
    report = await report_on(engine._engine, "tiny", 1.0)
    assert report.device == engine.card.device
    assert len(report.device) > len("cpu")
    assert report.precision == "bfloat16"
    # Only GPUs tell what their weights take.
    assert report.weights_bytes is None
    assert report.kv_cache_bytes == pytest.approx(2**30, rel=0.01)
    assert report.kv_cache_tokens > CONTEXT_TOKENS
    assert (report.tensor_parallel, report.pipeline_parallel, report.data_parallel) == (1, 1, 1)


def of(folder, **more) -> EngineSettings:
    return EngineSettings(engine="vllm", model=str(folder), **more)


@pytest.mark.parametrize("setting", ["tool_parser", "reasoning_parser"])
async def test_an_unknown_parser_is_refused_with_the_known_ones(model_folder, setting):
    with pytest.raises(FailedPreconditionError, match="deepseek_v3") as refused:
        async with open_models(of(model_folder, **{setting: "nobody's"})):
            pass
    assert refused.value.reason == "ENGINE_ARGUMENTS"


async def test_an_unknown_argument_is_refused_at_once(model_folder):
    with pytest.raises(FailedPreconditionError) as refused:
        async with open_models(of(model_folder, arguments={"tensor_paralel_size": 2})):
            pass
    assert refused.value.reason == "ENGINE_ARGUMENTS"


async def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FailedPreconditionError) as refused:
        async with open_models(of(tmp_path / "nothing")):
            pass
    assert refused.value.reason == "ENGINE_NOT_STARTED"
