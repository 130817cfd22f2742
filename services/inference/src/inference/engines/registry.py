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
from inference.engines.pool import GeneratorPool, Member, Members, RerankerPool
from inference.ports import Generator, Reranker

S = TypeVar("S", bound=ModelSettings)
T = TypeVar("T")

Opened = AbstractAsyncContextManager[Generator]
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


def _open_openai(settings: EngineSettings, otlp_endpoint: str) -> Opened:  # noqa: ARG001
    from inference.engines.openai.model import open_model  # noqa: PLC0415

    return open_model(
        settings.url,
        name=settings.name,
        model=settings.model,
        api_key=settings.key,
        concurrency=settings.concurrency,
        send_priority=settings.priority,
    )


def _open_vllm(settings: EngineSettings, otlp_endpoint: str) -> Opened:
    with import_vllm():
        from inference.engines.vllm.model import open_model  # noqa: PLC0415
    return open_model(
        settings.model,
        name=settings.name,
        arguments=settings.arguments,
        concurrency=settings.concurrency,
        otlp_endpoint=otlp_endpoint,
    )


ENGINES: dict[str, Callable[[EngineSettings, str], Opened]] = {
    "openai": _open_openai,
    "vllm": _open_vllm,
}


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
) -> AsyncIterator[Members[T]]:
    """Opens the engines of one model."""
    async with AsyncExitStack() as stack:
        yield Members(
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
    async with open_members(_open_engine, engines, otlp_endpoint) as members:
        yield GeneratorPool(members) if len(engines) > 1 else members.engines[0]


@asynccontextmanager
async def open_reranker(
    engines: Sequence[RerankerSettings], otlp_endpoint: str = ""
) -> AsyncIterator[Reranker]:
    """Opens a reranker by one engine, or by several; as `open_generator`."""
    async with open_members(_open_reranker, engines, otlp_endpoint) as members:
        yield RerankerPool(members) if len(engines) > 1 else members.engines[0]


def _open_engine(settings: EngineSettings, otlp_endpoint: str) -> Opened:
    return ENGINES[settings.engine](settings, otlp_endpoint)


def _open_reranker(settings: RerankerSettings, otlp_endpoint: str) -> OpenedReranker:
    return RERANKERS[settings.engine](settings, otlp_endpoint)
