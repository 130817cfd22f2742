"""What is counted of answers, and of the calls that an engine has."""

import asyncio
import uuid

import pytest
from prometheus_client import Gauge

from chassis.base.errors import OverloadedError, UnavailableError
from chassis.base.metrics import REGISTRY
from inference.engines.admission import WAITING_TIMES, Admission, Demand
from inference.generation import Finish, FinishReason, TextDelta, Usage
from inference.generation_metrics import VllmMetrics, measure

USAGE = Usage(input_tokens=40, cached_input_tokens=32, output_tokens=3)


@pytest.fixture
def model() -> str:
    return f"model-{uuid.uuid4().hex[:8]}"


def value(name: str, model: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"gen_ai_request_model": model, **labels})


async def answer(error: Exception | None = None):
    yield TextDelta("a")
    await asyncio.sleep(0.01)
    yield TextDelta("b")
    if error:
        raise error
    yield Finish(reason=FinishReason.STOP, usage=USAGE)


async def test_times_and_tokens_of_an_answer_are_counted(model):
    steps = [step async for step in measure(answer(), model)]
    assert len(steps) == 3
    assert value("gen_ai_server_time_to_first_token_seconds_count", model) == 1
    assert value("gen_ai_server_time_per_output_token_seconds_sum", model) >= 0.005
    assert value("gen_ai_server_request_duration_seconds_count", model, error_type="") == 1
    counts = [
        value("gen_ai_token_usage_total", model, gen_ai_token_type=kind)
        for kind in ("input", "cached", "output")
    ]
    assert counts == [40, 32, 3]


async def test_answers_that_fail_or_are_left_are_told_apart(model):
    with pytest.raises(UnavailableError):
        async for _ in measure(answer(UnavailableError("ENGINE_FAILED", "x")), model):
            pass
    left = measure(answer(), model)
    await anext(left)
    await left.aclose()
    name = "gen_ai_server_request_duration_seconds_count"
    assert value(name, model, error_type="ENGINE_FAILED") == 1
    assert value(name, model, error_type="cancelled") == 1
    assert value(name, model, error_type="") is None


async def test_calls_that_run_and_wait_are_shown_and_their_number_is_limited(model):
    admission, leave = Admission(model, 2), asyncio.Event()

    async def call(number: int) -> None:
        async with admission.enter(Demand(tenant=f"tenant {number % 3}")):
            await leave.wait()

    calls = [asyncio.create_task(call(number)) for number in range(2 + 2 * WAITING_TIMES)]
    await asyncio.sleep(0)
    assert value("aquifer_engine_requests", model, state="running") == 2
    assert value("aquifer_engine_requests", model, state="waiting") == 2 * WAITING_TIMES
    with pytest.raises(OverloadedError):
        async with admission.enter():
            pass
    calls[-1].cancel()
    leave.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert value("aquifer_engine_requests", model, state="running") == 0
    assert value("aquifer_engine_requests", model, state="waiting") == 0


def test_what_vllm_counts_is_exported_under_its_names():
    gauge = Gauge("vllm:num_requests_swapped", "As vLLM registers its own.")
    gauge.set(3)
    found = {metric.name: metric for metric in VllmMetrics().collect()}
    assert found["vllm:num_requests_swapped"].samples[0].value == 3
    assert all(name.startswith("vllm:") for name in found)
