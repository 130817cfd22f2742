"""Scores texts by `POST /rerank`, as vLLM, llama.cpp, Jina, Cohere and others speak it."""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from typing_extensions import override

from chassis.base.errors import InvalidInputError, UnavailableError
from inference.domain import Capability, ModelCard, ModelKind, ModelServer
from inference.engine_settings import RerankerSettings
from inference.engines.openai.served import Served, open_served
from inference.engines.spans import Attributes, call_span
from inference.engines.windows import SPECIAL_TOKENS, split, window_bytes
from inference.ports import Remote, Reranker


class OpenAiReranker(Reranker, Remote):
    """See `Reranker`; a text longer than the window is scored by its best part."""

    def __init__(self, served: Served, settings: RerankerSettings) -> None:
        self._served = served
        self._settings = settings
        self._max_tokens = served.window_tokens(settings)

    @property
    @override
    def card(self) -> ModelCard:
        return ModelCard(
            name=self._served.name,
            kind=ModelKind.RERANK,
            engine=self._served.engine,
            generative=False,
            description="a model behind an OpenAI-compatible server",
            revision=self._served.revision,
            capabilities=frozenset({Capability.RERANK}),
            context_tokens=self._max_tokens,
        )

    @property
    @override
    def servers(self) -> Sequence[ModelServer]:
        return self._served.servers

    @override
    async def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        room = self._room(question)
        parts = [(row, part) for row, text in enumerate(texts) for part in split(text, room)]
        best = [-math.inf] * len(texts)
        step = self._settings.batch_texts
        for start in range(0, len(parts), step):
            batch = parts[start : start + step]
            scores = await self._score(question, [part for _, part in batch])
            for (row, _), score in zip(batch, scores, strict=True):
                best[row] = max(best[row], score)
        return best

    def _room(self, question: str) -> int:
        """The longest part of a text in bytes, beside the question and what separates them.

        Raises:
            InvalidInputError: PROMPT_TOO_LONG, the question leaves less than half of the window.
        """
        is_refused = self._settings.refuses_long_texts
        longest = window_bytes(self._max_tokens - SPECIAL_TOKENS, is_refused=is_refused)
        room = longest - len(question.encode())
        if room < longest // 2:
            raise InvalidInputError(
                "PROMPT_TOO_LONG",
                "the question is longer than half of what the model reads",
                context_tokens=self._max_tokens,
            )
        return room

    async def _score(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        served = self._served
        attributes: Attributes = {"server.address": served.host, "aquifer.texts": len(texts)}
        body = {
            "model": served.model,
            "query": question,
            "documents": list(texts),
            "top_n": len(texts),
            **self._settings.arguments,
        }
        with call_span("rerank", served.name, served.flavour.value, attributes) as (_, headers):
            answer = await served.upstream.ask("rerank", body, headers)
            return _read_scores(answer, len(texts))


def _read_scores(answer: Mapping[str, Any], texts: int) -> Sequence[float]:
    """The score of each text; they come in the order of the scores.

    Raises:
        UnavailableError: ENGINE_OUTPUT, there is not exactly one number for each text.
    """
    try:
        results = answer["results"]
        scores = {one["index"]: float(one["relevance_score"]) for one in results}
    except (TypeError, KeyError, ValueError, ArithmeticError) as error:
        raise UnavailableError("ENGINE_OUTPUT", "the engine sent no scores") from error
    is_whole = len(results) == texts and scores.keys() == set(range(texts))
    if not is_whole or not all(map(math.isfinite, scores.values())):
        raise UnavailableError(
            "ENGINE_OUTPUT", "the engine did not send one score for each text of the request"
        )
    return [scores[at] for at in range(texts)]


@asynccontextmanager
async def open_reranker(settings: RerankerSettings) -> AsyncIterator[OpenAiReranker]:
    """A reranker of a server; with `max_tokens`, the server may still be starting.

    Raises:
        FailedPreconditionError: ENGINE_NOT_READY, the server does not tell its window.
    """
    opened = open_served(
        settings.url,
        name=settings.public_name,
        model=settings.model,
        api_key=settings.key,
        concurrency=settings.concurrency,
    )
    async with opened as served:
        yield OpenAiReranker(served, settings)
