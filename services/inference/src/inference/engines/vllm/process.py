"""Starts, watches and stops an engine of vLLM; it has processes of its own."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from vllm import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from chassis.base.errors import FailedPreconditionError, UnavailableError
from inference.domain import Precision
from inference.engine_settings import ModelSettings
from inference.engines.cpu import find_cpu_name

log = logging.getLogger(__name__)

ENGINE: Final = "vllm"
HEALTH_S: Final = 2.0
STOP_S: Final = 5.0
# On a CPU, a request with a seed whose prompt is read in parts ends vLLM 0.32: it sets a generator
# back, which only those of GPUs can do.
CPU_ARGUMENTS: Final = {"enable_chunked_prefill": False}
# Usage statistics are not sent.
QUIET: Final = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
MEMORY_REPORT: Final = "inference.engines.vllm.memory.MemoryReport"
REPORT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """What an engine that has started runs on.

    Memory is in bytes, over all devices of one replica, and so are the tokens of the KV cache;
    None: the engine does not tell. `tensor_parallel` devices share each layer, `pipeline_parallel`
    groups of them share the layers, and there are `data_parallel` replicas.
    """

    model: str
    device: str
    precision: str
    weights_bytes: int | None
    kv_cache_bytes: int | None
    kv_cache_tokens: int | None
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    took_s: float


@asynccontextmanager
async def open_process(
    settings: ModelSettings, otlp_endpoint: str, arguments: Mapping[str, Any]
) -> AsyncIterator[AsyncLLM]:
    """Starts an engine with a model, tells in the log what it runs on, and stops it at the end.

    Args:
        settings: the model, a folder or its name on the hub; and further arguments of
            `vllm.AsyncEngineArgs`, for example `tensor_parallel_size`, `pipeline_parallel_size`,
            `data_parallel_size`, `max_model_len`, `distributed_executor_backend` ("ray" for several
            nodes).
        otlp_endpoint: without one, vLLM makes no spans; they go to this process's own exporter.
        arguments: those that the kind of the model needs; the settings overrule them.

    Raises:
        FailedPreconditionError: ENGINE_ARGUMENTS, ENGINE_NOT_STARTED.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    started = time.monotonic()
    given = {
        "scheduling_policy": "priority",
        "otlp_traces_endpoint": otlp_endpoint or None,
        **(CPU_ARGUMENTS if current_platform.is_cpu() else {}),
        **arguments,
        **settings.arguments,
    }
    # The other nodes of Ray need not have this package.
    if given.get("distributed_executor_backend") != "ray":
        given = {"worker_extension_cls": MEMORY_REPORT, **given}
    engine = await _start_in_thread(settings.model, given)
    try:
        report = await report_on(engine, settings.public_name, time.monotonic() - started)
        log.info("engine.ready", extra=asdict(report))
        yield engine
    finally:
        await asyncio.to_thread(engine.shutdown, STOP_S)


async def _start_in_thread(model: str, settings: Mapping[str, Any]) -> AsyncLLM:
    """Starts an engine, which takes half a minute and blocks.

    A start cannot be stopped: who is cancelled waits for it, so that no process of it stays.
    """
    starting = asyncio.ensure_future(asyncio.to_thread(_start, model, settings))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        [ended], _ = await asyncio.wait([starting])
        if ended.exception() is None:
            await asyncio.to_thread(ended.result().shutdown, STOP_S)
        raise


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


def find_precision(dtype: object) -> Precision | None:
    """That of a model, where we have a name for it."""
    return {"torch.bfloat16": Precision.BF16, "torch.float32": Precision.F32}.get(str(dtype))


def describe(engine: AsyncLLM) -> str:
    """The architecture of its model, for people."""
    return ", ".join(engine.model_config.architectures)


def find_device() -> str:
    """The name of what engines run on here, for people."""
    return find_cpu_name() if current_platform.is_cpu() else str(current_platform.get_device_name())


async def report_on(engine: AsyncLLM, model: str, took_s: float) -> EngineReport:
    """What an engine runs on; it took so many seconds to start."""
    parallel = engine.vllm_config.parallel_config
    told: list[tuple[int | None, int]] = []
    if parallel.worker_extension_cls == MEMORY_REPORT:
        told = await engine.collective_rpc("report_memory", timeout=REPORT_S)
    weights = [each for each, _ in told if each is not None]
    return EngineReport(
        model=model,
        device=find_device(),
        precision=str(engine.model_config.dtype).removeprefix("torch."),
        weights_bytes=sum(weights) if weights else None,
        kv_cache_bytes=sum(cache for _, cache in told) if told else None,
        kv_cache_tokens=engine.vllm_config.cache_config.kv_cache_size_tokens,
        tensor_parallel=parallel.tensor_parallel_size,
        pipeline_parallel=parallel.pipeline_parallel_size,
        data_parallel=parallel.data_parallel_size,
        took_s=round(took_s, 1),
    )


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
