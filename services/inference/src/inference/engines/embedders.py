"""The embedders, by the name or the engine in the settings. A new one is a function more."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Final

from chassis.base.errors import FailedPreconditionError
from inference.batching import LIMITS, Batcher
from inference.domain import Lane
from inference.engine import AsyncEngine
from inference.engine_settings import EmbeddingSettings
from inference.engines import minilm, multilingual
from inference.engines.bert import BertEncoder
from inference.engines.extractive import Vocabulary
from inference.engines.null import NullEmbedder
from inference.engines.pool import EmbeddingPool
from inference.engines.registry import import_vllm, open_members
from inference.fair_queue import LaneLimits
from inference.ports import Embedder

Opened = tuple[Embedder, Vocabulary]


@asynccontextmanager
async def _open_encoder(load: Callable[[], BertEncoder]) -> AsyncIterator[Opened]:
    # In a thread, because the process connects to the bus and to auth meanwhile.
    engine = await asyncio.to_thread(load)
    async with Batcher(engine) as batcher:
        yield batcher, engine


@asynccontextmanager
async def _open_null() -> AsyncIterator[Opened]:
    null = NullEmbedder()
    yield null, null


EMBEDDERS: dict[str, Callable[[], AbstractAsyncContextManager[Opened]]] = {
    "minilm": lambda: _open_encoder(minilm.load),
    "multilingual": lambda: _open_encoder(multilingual.load),
    "null": _open_null,
}


def open_embedder(name: str) -> AbstractAsyncContextManager[Opened]:
    """Opens an embedder, with the word statistics of its tokenizer.

    Raises:
        DataLossError: when it is entered, MODEL_ALTERED.
        FailedPreconditionError: when it is entered, ENGINE_NOT_INSTALLED, ENGINE_INACCURATE.
    """
    return EMBEDDERS[name]()


def _open_openai(
    settings: EmbeddingSettings,
    otlp_endpoint: str,  # noqa: ARG001
) -> AbstractAsyncContextManager[AsyncEngine]:
    from inference.engines.openai.embeddings import open_embeddings  # noqa: PLC0415

    return open_embeddings(settings)


def _open_vllm(
    settings: EmbeddingSettings, otlp_endpoint: str
) -> AbstractAsyncContextManager[AsyncEngine]:
    with import_vllm():
        from inference.engines.vllm.pooling import open_embeddings  # noqa: PLC0415
    return open_embeddings(settings, otlp_endpoint)


ENGINES: dict[str, Callable[[EmbeddingSettings, str], AbstractAsyncContextManager[AsyncEngine]]] = {
    "openai": _open_openai,
    "vllm": _open_vllm,
}
# Where a window is its characters, a token is counted as so many.
CHARACTERS_PER_TOKEN: Final = {"openai": 4, "vllm": 1}


@asynccontextmanager
async def open_embedding_engine(
    engines: Sequence[EmbeddingSettings], otlp_endpoint: str = ""
) -> AsyncIterator[Batcher]:
    """Opens a model of another engine, or of several; their modules are imported only now.

    Raises:
        FailedPreconditionError: ENGINE_NOT_INSTALLED; ENGINE_NOT_READY, ENGINE_ARGUMENTS,
            ENGINE_NOT_STARTED.
    """
    _check_same(engines)
    async with open_members(_open_engine, engines, otlp_endpoint) as members:
        engine = members.engines[0]
        if len(engines) > 1:
            engine = pool = EmbeddingPool(members)
            await pool.check()
        async with Batcher(engine, _limits(engines[0])) as batcher:
            yield batcher


def _check_same(engines: Sequence[EmbeddingSettings]) -> None:
    first, *others = engines
    same = ("question_prefix", "passage_prefix", "refuses_long_texts")
    if any(getattr(one, name) != getattr(first, name) for one in others for name in same):
        raise FailedPreconditionError(
            "ENGINE_ARGUMENTS",
            f"the engines of {first.public_name!r} must have the same {', '.join(same)}",
        )
    if others and any(one.engine == "vllm" for one in engines):
        raise FailedPreconditionError(
            "ENGINE_ARGUMENTS",
            f"several engines of {first.public_name!r} must all be servers; vLLM in this process"
            " uses several GPUs by `data_parallel_size`",
        )


def _open_engine(
    settings: EmbeddingSettings, otlp_endpoint: str
) -> AbstractAsyncContextManager[AsyncEngine]:
    return ENGINES[settings.engine](settings, otlp_endpoint)


def _limits(settings: EmbeddingSettings) -> dict[Lane, LaneLimits]:
    characters = CHARACTERS_PER_TOKEN[settings.engine]
    return {
        lane: replace(
            limits,
            batch_tokens=settings.batch_tokens * characters,
            batch_windows=settings.batch_texts,
            waiting_tokens=limits.waiting_tokens * characters,
        )
        for lane, limits in LIMITS.items()
    }
