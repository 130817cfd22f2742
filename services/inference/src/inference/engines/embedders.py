"""The embedders, by the name in the settings. A new one is a function more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from inference.batching import Batcher
from inference.engines import minilm, multilingual
from inference.engines.bert import BertEncoder
from inference.engines.extractive import Vocabulary
from inference.engines.null import NullEmbedder
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
