"""Starts, watches and stops an engine of vLLM; it has processes of its own."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from vllm import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from chassis.base.errors import FailedPreconditionError, UnavailableError
from inference.domain import Precision

log = logging.getLogger(__name__)

ENGINE: Final = "vllm"
HEALTH_S: Final = 2.0
STOP_S: Final = 5.0
# On a CPU, a request with a seed whose prompt is read in parts ends vLLM 0.32: it sets a generator
# back, which only those of GPUs can do.
CPU_ARGUMENTS: Final = {"enable_chunked_prefill": False}
# Usage statistics are not sent.
QUIET: Final = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


@asynccontextmanager
async def open_process(
    model: str, arguments: Mapping[str, Any], otlp_endpoint: str
) -> AsyncIterator[AsyncLLM]:
    """Starts an engine with a model, and stops it at the end.

    Args:
        model: folder of the model, or its name on the hub.
        arguments: of `vllm.AsyncEngineArgs`, for example `tensor_parallel_size`,
            `pipeline_parallel_size`, `data_parallel_size`, `max_model_len`, `enable_lora`,
            `distributed_executor_backend` ("ray" for several nodes).
        otlp_endpoint: without one, vLLM makes no spans; they go to this process's own exporter.

    Raises:
        FailedPreconditionError: ENGINE_ARGUMENTS, ENGINE_NOT_STARTED.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    settings = {
        "scheduling_policy": "priority",
        "otlp_traces_endpoint": otlp_endpoint or None,
        **(CPU_ARGUMENTS if current_platform.is_cpu() else {}),
        **arguments,
    }
    # It takes half a minute, and blocks.
    engine = await asyncio.to_thread(_start, model, settings)
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.shutdown, STOP_S)


async def watch(engine: AsyncLLM) -> None:
    """Ends with an error when the engine is dead: only another process can start a new one.

    Raises:
        UnavailableError: ENGINE_FAILED.
    """
    while True:
        await asyncio.sleep(HEALTH_S)
        try:
            await engine.check_health()
        except EngineDeadError as error:
            log.critical("engine.dead")
            raise UnavailableError("ENGINE_FAILED", "the engine's process has died") from error


def name_of(model: str) -> str:
    """The name of a model in a folder, or on the hub."""
    return Path(model).name or model


def find_precision(dtype: object) -> Precision | None:
    """That of a model, where we have a name for it."""
    return {"torch.bfloat16": Precision.BF16, "torch.float32": Precision.F32}.get(str(dtype))


def describe(engine: AsyncLLM) -> str:
    """The architecture of its model, and the device, for people."""
    device = engine.vllm_config.device_config.device_type
    return f"{', '.join(engine.model_config.architectures)} on {device}"


def _start(model: str, settings: Mapping[str, Any]) -> AsyncLLM:
    known = {field.name for field in fields(AsyncEngineArgs)}
    if unknown := settings.keys() - known:
        raise FailedPreconditionError(
            "ENGINE_ARGUMENTS",
            f"vLLM has no argument {', '.join(sorted(unknown))}; see vllm.AsyncEngineArgs for what"
            " can be set",
        )
    try:
        return AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, **settings))
    # A model that is missing, broken or too large; vLLM raises many types.
    except Exception as error:
        why = " ".join(str(error).split())[:500]
        raise FailedPreconditionError(
            "ENGINE_NOT_STARTED", f"vLLM did not start: {why}; its log above tells more"
        ) from error
