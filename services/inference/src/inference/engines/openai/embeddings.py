"""Embeds by `POST /embeddings` of an OpenAI-compatible server."""

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import numpy as np
from typing_extensions import override

from chassis.base.errors import (
    FailedPreconditionError,
    InvalidInputError,
    ServiceError,
    UnavailableError,
)
from inference.domain import (
    Capability,
    EmbeddingProfile,
    InputType,
    Lane,
    ModelCard,
    ModelKind,
    ModelServer,
    Precision,
)
from inference.engine import PROBE, AsyncEngine, Ids
from inference.engine_settings import EmbeddingSettings
from inference.engines.openai.served import Served, open_served
from inference.engines.spans import Attributes, call_span
from inference.engines.windows import split, to_ids, to_text, window_bytes
from inference.ports import Matrix

# A window is not halved below this part of the longest one.
HALVED_TIMES: Final = 16


class OpenAiEmbeddings(AsyncEngine):
    """An `AsyncEngine`; a window is its characters, because the server has the tokenizer.

    Args:
        served: the model.
        profile: of its vectors.
        settings: of the engine.

    Raises:
        FailedPreconditionError: ENGINE_ARGUMENTS, a prefix leaves no room for a text.
    """

    def __init__(
        self, served: Served, profile: EmbeddingProfile, settings: EmbeddingSettings
    ) -> None:
        self._served = served
        self._profile = profile
        self._settings = settings
        self._window_bytes = window_bytes(
            profile.max_tokens, is_refused=settings.refuses_long_texts
        )
        self._endpoint = EmbeddingsEndpoint(served, settings.arguments)
        self._prefixes = {
            InputType.QUESTION: settings.question_prefix,
            InputType.PASSAGE: settings.passage_prefix,
        }
        if max(len(one.encode()) for one in self._prefixes.values()) > self._window_bytes // 2:
            raise FailedPreconditionError(
                "ENGINE_ARGUMENTS",
                f"a prefix takes more than half of the {profile.max_tokens} tokens that the model"
                " reads; set a shorter one",
            )

    @property
    @override
    def profile(self) -> EmbeddingProfile:
        return self._profile

    @property
    @override
    def card(self) -> ModelCard:
        return ModelCard(
            name=self._profile.name,
            kind=ModelKind.EMBED,
            engine=self._served.engine,
            generative=False,
            description="a model behind an OpenAI-compatible server",
            revision=self._served.revision,
            capabilities=frozenset({Capability.EMBED}),
            context_tokens=self._profile.max_tokens,
            dimensions=self._profile.dimensions,
        )

    @property
    @override
    def servers(self) -> Sequence[ModelServer]:
        return self._served.servers

    @property
    @override
    def slots(self) -> int:
        return self._settings.concurrency

    @override
    async def tokenize(
        self, texts: Sequence[str], lane: Lane, input_type: InputType
    ) -> Sequence[Sequence[Ids]]:
        prefix = self._prefixes[input_type]
        room = self._window_bytes - len(prefix.encode())
        return [[to_ids(prefix + part) for part in split(text, room)] for text in texts]

    @override
    async def infer(self, slot: int, windows: Sequence[Ids]) -> Matrix:
        try:
            return await self._embed([to_text(ids) for ids in windows])
        except InvalidInputError as error:
            # The batcher finds out whether one of the texts is the cause. What the server said may
            # have words of them, and this is logged.
            status = error.facts.get("status", "")
            raise ValueError(f"the server says {status} {error.reason}") from None

    async def _embed(self, texts: Sequence[str]) -> Matrix:
        """Vectors of texts; what the server refuses as too long is halved until it is not."""
        try:
            return await self._endpoint.embed(texts, self._profile.dimensions)
        except InvalidInputError as error:
            if error.reason != "PROMPT_TOO_LONG":
                raise
            refusal = error
        if len(texts) > 1:
            middle = len(texts) // 2
            parts = [await self._embed(texts[:middle]), await self._embed(texts[middle:])]
            return np.concatenate(parts)
        return await self._embed_halves(texts[0], refusal)

    async def _embed_halves(self, text: str, refusal: InvalidInputError) -> Matrix:
        """The mean of the vectors of both halves; each has the prefix of the text.

        Raises:
            InvalidInputError: the refusal, of a text so short that the settings must be wrong.
        """
        prefixes = sorted(self._prefixes.values(), key=len, reverse=True)
        prefix = next(one for one in (*prefixes, "") if text.startswith(one))
        body = text.removeprefix(prefix)
        if len(body.encode()) < self._window_bytes // HALVED_TIMES:
            raise refusal
        middle = len(body) // 2
        halves = await self._embed([prefix + body[:middle], prefix + body[middle:]])
        unit = halves / np.linalg.norm(halves, axis=1, keepdims=True)
        mean: Matrix = unit.mean(axis=0, keepdims=True)
        return mean


class EmbeddingsEndpoint:
    """`POST /embeddings`: its requests and answers."""

    def __init__(self, served: Served, arguments: Mapping[str, Any]) -> None:
        self._served = served
        self._arguments = arguments
        self._encoding = "base64"

    async def embed(self, texts: Sequence[str], dimensions: int = 0) -> Matrix:
        """Vectors of the texts, f32 [texts, dimensions], of any length; 0: as many as come.

        Raises:
            InvalidInputError: PROMPT_TOO_LONG, REQUEST_REFUSED.
            OverloadedError: ENGINE_BUSY.
            UnavailableError: ENGINE_UNREACHABLE, ENGINE_REFUSED, ENGINE_FAILED, ENGINE_OUTPUT.
        """
        try:
            return await self._ask(texts, dimensions)
        except InvalidInputError as error:
            if self._encoding == "float" or "encoding" not in error.detail:
                raise
        # A server that does not know base64; most have lists of numbers only in addition.
        self._encoding = "float"
        return await self._ask(texts, dimensions)

    async def _ask(self, texts: Sequence[str], dimensions: int) -> Matrix:
        served = self._served
        attributes: Attributes = {
            "server.address": served.host,
            "gen_ai.request.encoding_formats": self._encoding,
            "aquifer.texts": len(texts),
        }
        body = {
            "model": served.model,
            "input": list(texts),
            "encoding_format": self._encoding,
            **self._arguments,
        }
        opened = call_span("embeddings", served.name, served.flavour.value, attributes)
        with opened as (span, headers):
            answer = await served.upstream.ask("embeddings", body, headers)
            vectors = _read_vectors(answer, len(texts), dimensions)
            usage = answer.get("usage")
            tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
            if isinstance(tokens, int):
                span.set_attribute("gen_ai.usage.input_tokens", tokens)
            return vectors


def _read_vectors(answer: Mapping[str, Any], rows: int, dimensions: int) -> Matrix:
    """The vectors of an answer; what is not exactly one for each text is none.

    Raises:
        UnavailableError: ENGINE_OUTPUT.
    """
    try:
        data = answer["data"]
        found = [_read_row(one["embedding"]) for one in data]
        in_order = [one.get("index", at) for at, one in enumerate(data)] == list(range(rows))
        vectors = np.stack(found)
    except (TypeError, AttributeError, KeyError, ValueError, ArithmeticError) as error:
        raise UnavailableError("ENGINE_OUTPUT", "the engine sent no vectors") from error
    if not in_order:
        raise UnavailableError(
            "ENGINE_OUTPUT", "the engine did not send one vector for each text, in their order"
        )
    wanted = dimensions or vectors.shape[-1]
    if vectors.shape != (rows, wanted) or not wanted:
        raise UnavailableError(
            "ENGINE_OUTPUT",
            f"the engine sent vectors of {vectors.shape[-1]} dimensions, its profile has {wanted}",
            dimensions=vectors.shape[-1],
            expected=wanted,
        )
    norms = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise UnavailableError(
            "ENGINE_OUTPUT", "the engine sent a vector that is zero, or has what is no number"
        )
    return vectors


def _read_row(value: object) -> Matrix:
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
    with np.errstate(over="ignore"):
        row: Matrix = np.asarray(value, np.float64).astype(np.float32)
    return row


@asynccontextmanager
async def open_embeddings(settings: EmbeddingSettings) -> AsyncIterator[OpenAiEmbeddings]:
    """An embedding model of a server.

    With `dimensions` and `max_tokens`, the server may still be starting.

    Raises:
        FailedPreconditionError: ENGINE_NOT_READY, it is not there to be asked for what was not set.
    """
    opened = open_served(
        settings.url,
        name=settings.public_name,
        model=settings.model,
        api_key=settings.key,
        concurrency=settings.concurrency,
    )
    async with opened as served:
        profile = EmbeddingProfile(
            name=served.name,
            model=served.model,
            dimensions=settings.dimensions or await _ask_dimensions(served, settings),
            max_tokens=served.window_tokens(settings),
            pooling="of the server",
            normalised=True,
            precision=Precision.F32,
        )
        yield OpenAiEmbeddings(served, profile, settings)


async def _ask_dimensions(served: Served, settings: EmbeddingSettings) -> int:
    try:
        vectors = await EmbeddingsEndpoint(served, settings.arguments).embed([PROBE])
    except ServiceError as error:
        raise FailedPreconditionError(
            "ENGINE_NOT_READY",
            f"the server at {served.host} does not embed by {served.model!r}: {error.detail}"
            f" ({error.reason}); start it first, or set `dimensions` of this engine",
            model=served.model,
        ) from error
    return int(vectors.shape[1])
