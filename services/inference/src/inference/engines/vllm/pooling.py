"""Models that vLLM runs to embed or to score: its pooling runner, in processes of its own."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from typing_extensions import override
from vllm import PoolingParams
from vllm.exceptions import VLLMClientError
from vllm.inputs import TokensPrompt
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from chassis.base.errors import FailedPreconditionError, InvalidInputError, UnavailableError
from inference.domain import (
    Capability,
    EmbeddingProfile,
    InputType,
    Lane,
    ModelCard,
    ModelKind,
    Precision,
)
from inference.engine import PROBE, AsyncEngine, Ids
from inference.engine_settings import EmbeddingSettings, PoolingSettings, RerankerSettings
from inference.engines.admission import Admission
from inference.engines.spans import call_span
from inference.engines.vllm.process import (
    ENGINE,
    describe,
    find_device,
    find_precision,
    open_process,
    watch,
)
from inference.ports import Matrix, Reranker

# A part of a text may have a few more tokens alone than it had in the text.
SPARE_TOKENS: Final = 8


class VllmEmbeddings(AsyncEngine):
    """An `AsyncEngine`; open it with `open_embeddings`."""

    def __init__(self, engine: AsyncLLM, settings: EmbeddingSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._tokenizer: Any = engine.get_tokenizer()
        size = int(engine.model_config.embedding_size)
        self._dimensions = settings.dimensions or size
        # Models that can shorten their vectors do it when they are asked for others than their own.
        self._params = PoolingParams(
            task="embed", dimensions=self._dimensions if self._dimensions != size else None
        )
        self._prefixes = {
            InputType.QUESTION: settings.question_prefix,
            InputType.PASSAGE: settings.passage_prefix,
        }

    @property
    @override
    def profile(self) -> EmbeddingProfile:
        config = self._engine.model_config
        return EmbeddingProfile(
            name=self._settings.public_name,
            model=self._settings.model,
            dimensions=self._dimensions,
            max_tokens=config.max_model_len,
            pooling="of the model",
            normalised=True,
            precision=find_precision(config.dtype) or Precision.F32,
        )

    @property
    @override
    def card(self) -> ModelCard:
        card = _card(self._engine, self._settings, ModelKind.EMBED, Capability.EMBED)
        return replace(card, dimensions=self._dimensions)

    @property
    @override
    def slots(self) -> int:
        return self._settings.concurrency

    @override
    async def watch(self) -> None:
        await watch(self._engine)

    @override
    async def tokenize(
        self, texts: Sequence[str], lane: Lane, input_type: InputType
    ) -> Sequence[Sequence[Ids]]:
        prefix = self._prefixes[input_type]

        def tokenize() -> list[list[Ids]]:
            room = self._engine.model_config.max_model_len - len(self._encode(prefix))
            return [
                [
                    np.array(self._encode(prefix + part) or [0], np.int32)
                    for part in split(self._tokenizer, text, room - SPARE_TOKENS)
                ]
                for text in texts
            ]

        return await asyncio.to_thread(tokenize)

    @override
    async def infer(self, slot: int, windows: Sequence[Ids]) -> Matrix:
        # The scheduler serves lower numbers first; bulk work never has the last slot.
        priority = 0 if slot == self.slots - 1 else 1
        name, attributes = self._settings.public_name, {"aquifer.texts": len(windows)}
        with call_span("embeddings", name, ENGINE, attributes) as (span, headers):
            span.set_attribute("gen_ai.usage.input_tokens", sum(map(len, windows)))
            calls = (
                pool(self._engine, ids.tolist(), self._params, headers, priority) for ids in windows
            )
            return np.stack(await asyncio.gather(*calls))

    async def check(self) -> None:
        """Embeds a text known to be good.

        Raises:
            FailedPreconditionError: ENGINE_ARGUMENTS, its vector is not what the profile says.
        """
        try:
            [[ids]] = await self.tokenize([PROBE], Lane.INTERACTIVE, InputType.PASSAGE)
            found = (await self.infer(0, [ids])).shape[1]
        except (VLLMClientError, ValueError) as error:
            raise FailedPreconditionError(
                "ENGINE_ARGUMENTS", f"the model does not embed: {error}; correct its settings"
            ) from error
        if found != self._dimensions:
            raise FailedPreconditionError(
                "ENGINE_ARGUMENTS",
                f"the model gives {found} dimensions, not {self._dimensions}; correct `dimensions`",
                dimensions=found,
            )

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids


class VllmReranker(Reranker):
    """See `Reranker`; a text longer than the window is scored by its best part."""

    def __init__(self, engine: AsyncLLM, settings: RerankerSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._tokenizer: Any = engine.get_tokenizer()
        self._admission = Admission(settings.public_name, settings.concurrency)

    @property
    @override
    def card(self) -> ModelCard:
        return _card(self._engine, self._settings, ModelKind.RERANK, Capability.RERANK)

    async def watch(self) -> None:
        """See `process.watch`."""
        await watch(self._engine)

    @override
    async def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        name, attributes = self._settings.public_name, {"aquifer.texts": len(texts)}
        async with self._admission.enter():
            with call_span("rerank", name, ENGINE, attributes) as (_, headers):
                return await asyncio.gather(
                    *(self._score(question, text, headers) for text in texts)
                )

    async def _score(self, question: str, text: str, headers: Mapping[str, str]) -> float:
        pairs = await asyncio.to_thread(self._pair, question, text)
        try:
            scores = await asyncio.gather(
                *(pool(self._engine, ids, params, headers, priority=0) for ids, params in pairs)
            )
        except (VLLMClientError, ValueError) as error:
            why = " ".join(str(error).split())[:300]
            raise InvalidInputError("REQUEST_REFUSED", f"the engine says: {why}") from error
        best = float(np.max(scores))
        if not np.isfinite(best):
            raise UnavailableError("ENGINE_OUTPUT", "the engine gave a score that is no number")
        return best

    def _pair(self, question: str, text: str) -> list[tuple[list[int], PoolingParams]]:
        """The question with each part of the text, as this model reads them.

        Raises:
            InvalidInputError: PROMPT_TOO_LONG, the question leaves less than half of the window.
        """
        longest = self._engine.model_config.max_model_len
        room = longest - len(self._tokenizer(question, "")["input_ids"]) - SPARE_TOKENS
        if room < longest // 2:
            raise InvalidInputError(
                "PROMPT_TOO_LONG",
                "the question is longer than half of what the model reads",
                context_tokens=longest,
            )
        return [
            _with_segments(self._tokenizer(question, part))
            for part in split(self._tokenizer, text, room)
        ]


def _with_segments(encoded: Mapping[str, Any]) -> tuple[list[int], PoolingParams]:
    """The tokens of a pair, and where its second text begins, for models that are told."""
    kinds = encoded.get("token_type_ids")
    extra = {"compressed_token_type_ids": kinds.index(1)} if kinds and 1 in kinds else None
    return encoded["input_ids"], PoolingParams(task="classify", extra_kwargs=extra)


def split(tokenizer: Any, text: str, room: int) -> Iterator[str]:
    """Parts of at most about `room` tokens, which joined are the text."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    cuts = [0, *(start for start, _ in offsets[room::room]), len(text)]
    return (text[start:end] for start, end in pairwise(cuts))


async def pool(
    engine: AsyncLLM,
    ids: Sequence[int],
    params: PoolingParams,
    headers: Mapping[str, str],
    priority: int,
) -> Matrix:
    """What the model makes of tokens: f32 [dimensions] or [classes].

    Raises:
        UnavailableError: ENGINE_FAILED.
        VLLMClientError, ValueError: the engine does not take these tokens.
    """
    prompt = TokensPrompt(prompt_token_ids=list(ids))
    outputs = engine.encode(
        prompt, params, str(uuid.uuid4()), trace_headers=headers, priority=priority
    )
    try:
        [output] = [output async for output in outputs]
    except (EngineDeadError, EngineGenerateError) as error:
        raise UnavailableError("ENGINE_FAILED", "the engine failed; ask again") from error
    if output.error is not None:
        raise UnavailableError("ENGINE_FAILED", "the engine failed on a text; ask again")
    pooled: Matrix = output.outputs.data.float().numpy()
    return pooled


@asynccontextmanager
async def open_embeddings(
    settings: EmbeddingSettings, otlp_endpoint: str
) -> AsyncIterator[VllmEmbeddings]:
    """Starts an engine with a model that embeds.

    Raises:
        FailedPreconditionError: ENGINE_ARGUMENTS, ENGINE_NOT_STARTED.
    """
    async with _open_pooling(settings, "embed", otlp_endpoint) as engine:
        embeddings = VllmEmbeddings(engine, settings)
        await embeddings.check()
        yield embeddings


@asynccontextmanager
async def open_reranker(
    settings: RerankerSettings, otlp_endpoint: str
) -> AsyncIterator[VllmReranker]:
    """Starts an engine with a model that scores a question and a text together.

    Raises:
        FailedPreconditionError: ENGINE_ARGUMENTS, ENGINE_NOT_STARTED.
    """
    async with _open_pooling(settings, "classify", otlp_endpoint) as engine:
        if not engine.model_config.use_sep_token:
            raise FailedPreconditionError(
                "ENGINE_NOT_STARTED",
                f"{settings.model!r} wants a prompt of its own for a question and a text; serve it"
                " by vLLM's server, and use the engine openai",
                model=settings.model,
            )
        yield VllmReranker(engine, settings)


@asynccontextmanager
async def _open_pooling(
    settings: PoolingSettings, task: str, otlp_endpoint: str
) -> AsyncIterator[AsyncLLM]:
    window = {"max_model_len": settings.max_tokens} if settings.max_tokens else {}
    async with open_process(settings, otlp_endpoint, {"runner": "pooling", **window}) as engine:
        tasks = await engine.get_supported_tasks()
        if task not in tasks:
            raise FailedPreconditionError(
                "ENGINE_NOT_STARTED",
                f"{settings.model!r} is no model for this: vLLM can only {', '.join(tasks)} by it",
                model=settings.model,
            )
        yield engine


def _card(
    engine: AsyncLLM, settings: PoolingSettings, kind: ModelKind, capability: Capability
) -> ModelCard:
    config = engine.model_config
    return ModelCard(
        name=settings.public_name,
        kind=kind,
        engine=ENGINE,
        generative=False,
        description=describe(engine),
        precision=find_precision(config.dtype),
        revision=str(config.revision or ""),
        capabilities=frozenset({capability}),
        context_tokens=config.max_model_len,
        device=find_device(),
    )
