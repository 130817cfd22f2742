"""Metrics of answers, under the names of OpenTelemetry's GenAI conventions, and of engines.

Labels are models, never tenants or content. What vLLM counts in this process is exported under its
own names, as dashboards for vLLM expect it.
"""

import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from chassis.base.errors import ServiceError
from chassis.base.metrics import REGISTRY
from inference.generation import Finish, Step

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)

FIRST_TOKEN_SECONDS = Histogram(
    "gen_ai_server_time_to_first_token_seconds",
    "Time from a request to the first step of its answer, waiting included.",
    ("gen_ai_request_model",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
OUTPUT_TOKEN_SECONDS = Histogram(
    "gen_ai_server_time_per_output_token_seconds",
    "Mean time of each token after the first one of an answer.",
    ("gen_ai_request_model",),
    buckets=_TOKEN_SECONDS,
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "gen_ai_server_request_duration_seconds",
    "Time from a request to the end of its answer; error_type is empty for answers that finished.",
    ("gen_ai_request_model", "error_type"),
    buckets=_SECONDS,
    registry=REGISTRY,
)
TOKENS = Counter(
    "gen_ai_token_usage",
    "Tokens read (input), of these from the engine's cache (cached), and written (output).",
    ("gen_ai_request_model", "gen_ai_token_type"),
    registry=REGISTRY,
)
ENGINE_REQUESTS = Gauge(
    "aquifer_engine_requests",
    "Calls of an engine that run (running), or that wait for it here (waiting).",
    ("gen_ai_request_model", "state"),
    registry=REGISTRY,
)


async def measure(steps: AsyncGenerator[Step, None], model: str) -> AsyncGenerator[Step, None]:
    """The same steps; their times and tokens are counted."""
    started_s = time.monotonic()
    first_s: float | None = None
    error_type = "cancelled"
    try:
        async with aclosing(steps):
            async for step in steps:
                if first_s is None:
                    first_s = time.monotonic()
                    FIRST_TOKEN_SECONDS.labels(model).observe(first_s - started_s)
                if isinstance(step, Finish):
                    error_type = ""
                    _count_tokens(step, model, time.monotonic() - first_s)
                yield step
    except ServiceError as error:
        error_type = error.reason
        raise
    finally:
        REQUEST_SECONDS.labels(model, error_type).observe(time.monotonic() - started_s)


def _count_tokens(finish: Finish, model: str, written_s: float) -> None:
    usage = finish.usage
    TOKENS.labels(model, "input").inc(usage.input_tokens)
    TOKENS.labels(model, "cached").inc(usage.cached_input_tokens)
    TOKENS.labels(model, "output").inc(usage.output_tokens)
    if usage.output_tokens > 1:
        OUTPUT_TOKEN_SECONDS.labels(model).observe(written_s / (usage.output_tokens - 1))


class VllmMetrics(Collector):
    """What vLLM counts in this process: `vllm:num_requests_running` and all others."""

    @override
    def collect(self) -> Iterable[Metric]:
        for metric in prometheus_client.REGISTRY.collect():
            if metric.name.startswith("vllm:"):
                yield metric
