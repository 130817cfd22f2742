"""The engines that write answers or rerank, by the name in the settings.

A new one is a function more.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import TypeVar

from chassis.base.errors import FailedPreconditionError
from inference.engine_settings import EngineSettings, ModelSettings, RerankerSettings
from inference.engines.pool import GeneratorPool, Member, RerankerPool, WeightedEngines
from inference.ports import Generator, Reranker

S = TypeVar("S", bound=ModelSettings)
T = TypeVar("T")

Opened = AbstractAsyncContextManager[Sequence[Generator]]
OpenedReranker = AbstractAsyncContextManager[Reranker]


@contextmanager
def import_vllm() -> Iterator[None]:
    """For the import of a module that needs vLLM.

    Raises:
        FailedPreconditionError: ENGINE_NOT_INSTALLED.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise FailedPreconditionError(
            "ENGINE_NOT_INSTALLED",
            f"the engine vllm needs vLLM beside inference: {error};"
            " services/inference/README.md tells how to install it",
        ) from error


@asynccontextmanager
async def _open_openai(
    settings: EngineSettings,
    otlp_endpoint: str,  # noqa: ARG001
) -> AsyncIterator[Sequence[Generator]]:
    from inference.engines.openai.model import open_model  # noqa: PLC0415

    async with open_model(
        settings.url,
        name=settings.name,
        model=settings.model,
        api_key=settings.key,
        concurrency=settings.concurrency,
        send_priority=settings.priority,
    ) as model:
        yield [model]


def _open_vllm(settings: EngineSettings, otlp_endpoint: str) -> Opened:
    with import_vllm():
        from inference.engines.vllm.model import open_models  # noqa: PLC0415
    return open_models(settings, otlp_endpoint)


ENGINES: dict[str, Callable[[EngineSettings, str], Opened]] = {
    "openai": _open_openai,
    "vllm": _open_vllm,
}


def open_engine(settings: EngineSettings, otlp_endpoint: str) -> Opened:
    """Opens the models of an engine, the first with its adapters; its module is imported only now.

    Raises:
        FailedPreconditionError: ENGINE_NOT_INSTALLED; when it is entered ENGINE_NOT_READY,
            ENGINE_ARGUMENTS, ENGINE_NOT_STARTED.
    """
    return ENGINES[settings.engine](settings, otlp_endpoint)


def _open_openai_reranker(
    settings: RerankerSettings,
    otlp_endpoint: str,  # noqa: ARG001
) -> OpenedReranker:
    from inference.engines.openai.rerank import open_reranker as opened  # noqa: PLC0415

    return opened(settings)


def _open_vllm_reranker(settings: RerankerSettings, otlp_endpoint: str) -> OpenedReranker:
    with import_vllm():
        from inference.engines.vllm.pooling import open_reranker as opened  # noqa: PLC0415
    return opened(settings, otlp_endpoint)


RERANKERS: dict[str, Callable[[RerankerSettings, str], OpenedReranker]] = {
    "openai": _open_openai_reranker,
    "vllm": _open_vllm_reranker,
}


@asynccontextmanager
async def open_members(
    open_one: Callable[[S, str], AbstractAsyncContextManager[T]],
    engines: Sequence[S],
    otlp_endpoint: str,
) -> AsyncIterator[WeightedEngines[T]]:
    """Opens the engines of one model."""
    async with AsyncExitStack() as stack:
        yield WeightedEngines(
            [
                Member(
                    engine=await stack.enter_async_context(open_one(one, otlp_endpoint)),
                    weight=one.weight,
                )
                for one in engines
            ]
        )


@asynccontextmanager
async def open_generator(
    engines: Sequence[EngineSettings], otlp_endpoint: str = ""
) -> AsyncIterator[Generator]:
    """Opens a model that writes answers by one engine, or by several.

    Their modules are imported only now.

    Raises:
        FailedPreconditionError: ENGINE_NOT_INSTALLED, ENGINE_NOT_READY, ENGINE_ARGUMENTS,
            ENGINE_NOT_STARTED.
    """
    async with open_members(_open_first, engines, otlp_endpoint) as members:
        yield GeneratorPool(members) if len(engines) > 1 else members.engines[0]


@asynccontextmanager
async def open_reranker(
    engines: Sequence[RerankerSettings], otlp_endpoint: str = ""
) -> AsyncIterator[Reranker]:
    """Opens a reranker by one engine, or by several; as `open_generator`."""
    async with open_members(_open_reranker, engines, otlp_endpoint) as members:
        yield RerankerPool(members) if len(engines) > 1 else members.engines[0]


@asynccontextmanager
async def _open_first(settings: EngineSettings, otlp_endpoint: str) -> AsyncIterator[Generator]:
    """The model of an engine, without its adapters."""
    async with open_engine(settings, otlp_endpoint) as models:
        yield models[0]


def _open_reranker(settings: RerankerSettings, otlp_endpoint: str) -> OpenedReranker:
    return RERANKERS[settings.engine](settings, otlp_endpoint)
