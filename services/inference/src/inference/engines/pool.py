"""Several engines behind one name: calls are shared by weight, and go on when one fails."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Final, Generic, TypeVar

import numpy as np
from typing_extensions import override

from chassis.base.errors import FailedPreconditionError, OverloadedError, UnavailableError
from inference.domain import EmbeddingProfile, InputType, Lane, ModelCard, ModelServer
from inference.engine import PROBE, AsyncEngine, Ids, infer
from inference.generation import Generation, Step
from inference.ports import (
    Generator,
    Matrix,
    Model,
    Remote,
    Reranker,
    TokenCounter,
    Vector,
    Watched,
)

# Servers may compute one model in different precisions.
SAME_COSINE: Final = 0.99

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member(Generic[T]):
    """An engine and its share of the calls; 0: only when all others fail."""

    engine: T
    weight: int


@dataclass(frozen=True, slots=True)
class WeightedEngines(Generic[T]):
    """Engines of the same name, and the share of the calls that each gets."""

    members: Sequence[Member[T]]
    dice: random.Random = field(default_factory=random.Random)

    @property
    def engines(self) -> Sequence[T]:
        """All of them."""
        return [member.engine for member in self.members]

    @property
    def servers(self) -> Sequence[ModelServer]:
        """Those of all members, with the weights of these."""
        return [
            replace(server, weight=member.weight)
            for member in self.members
            if isinstance(member.engine, Remote)
            for server in member.engine.servers
        ]

    def choose(self) -> Iterator[T]:
        """All engines, in an order drawn by their weights; those without weight come last."""
        left = [member for member in self.members if member.weight]
        while left:
            [chosen] = self.dice.choices(left, [member.weight for member in left])
            left.remove(chosen)
            yield chosen.engine
        yield from (member.engine for member in self.members if not member.weight)

    async def ask(self, call: Callable[[T], Awaitable[R]]) -> R:
        """The answer of the first engine that is not away, failing or full.

        Raises:
            OverloadedError, UnavailableError: all are; that of the last one.
        """
        failure: UnavailableError | OverloadedError | None = None
        for engine in self.choose():
            try:
                return await call(engine)
            except (UnavailableError, OverloadedError) as error:
                failure = error
        assert failure is not None, "a pool has members"
        raise failure

    async def watch(self) -> None:
        """Runs until one engine is dead, and then raises."""
        watched = [engine.watch() for engine in self.engines if isinstance(engine, Watched)]
        await asyncio.gather(asyncio.Event().wait(), *watched)

    def describe(self, cards: Sequence[ModelCard]) -> ModelCard:
        """The card of all together: they can do what each of them can."""
        return replace(
            cards[0],
            engine=", ".join(dict.fromkeys(card.engine for card in cards)),
            description=f"{len(cards)} engines; {cards[0].description}",
            capabilities=reduce(frozenset.intersection, (card.capabilities for card in cards)),
            context_tokens=min(card.context_tokens for card in cards),
            device=", ".join(dict.fromkeys(card.device for card in cards if card.device)),
        )


@dataclass(frozen=True, slots=True)
class _ModelPool(Model, Remote, Watched, Generic[M]):
    """A model that all engines of a pool run."""

    pool: WeightedEngines[M]

    @property
    @override
    def card(self) -> ModelCard:
        return self.pool.describe([engine.card for engine in self.pool.engines])

    @property
    @override
    def servers(self) -> Sequence[ModelServer]:
        return self.pool.servers

    @override
    async def watch(self) -> None:
        await self.pool.watch()


@dataclass(frozen=True, slots=True)
class GeneratorPool(_ModelPool[Generator], Generator, TokenCounter):
    """See `Generator`. A call goes to the next engine if one fails before its first step."""

    @override
    async def generate(self, request: Generation) -> AsyncGenerator[Step, None]:
        failure: UnavailableError | OverloadedError | None = None
        for generator in self.pool.choose():
            begun = False
            try:
                async with aclosing(generator.generate(request)) as steps:
                    async for step in steps:
                        begun = True
                        yield step
            except (UnavailableError, OverloadedError) as error:
                if begun:
                    raise
                failure = error
            else:
                return
        assert failure is not None, "a pool has members"
        raise failure

    @override
    async def count(self, texts: Sequence[str]) -> Sequence[int]:
        async def count(generator: Generator) -> Sequence[int]:
            assert isinstance(generator, TokenCounter), "the card of the pool says so"
            return await generator.count(texts)

        return await self.pool.ask(count)


@dataclass(frozen=True, slots=True)
class RerankerPool(_ModelPool[Reranker], Reranker):
    """See `Reranker`."""

    @override
    async def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        return await self.pool.ask(lambda reranker: reranker.rerank(question, texts))


class EmbeddingPool(AsyncEngine):
    """An `AsyncEngine` of servers that have the same model; each batch goes to one of them.

    Windows are made by the engine that has the shortest, so that every server takes them.
    """

    def __init__(self, pool: WeightedEngines[AsyncEngine]) -> None:
        self._pool = pool
        self._shortest = min(pool.engines, key=lambda engine: engine.profile.max_tokens)

    @property
    @override
    def profile(self) -> EmbeddingProfile:
        return self._shortest.profile

    @property
    @override
    def card(self) -> ModelCard:
        return self._pool.describe([engine.card for engine in self._pool.engines])

    @property
    @override
    def servers(self) -> Sequence[ModelServer]:
        return self._pool.servers

    @property
    @override
    def slots(self) -> int:
        return sum(engine.slots for engine in self._pool.engines)

    @override
    async def watch(self) -> None:
        await self._pool.watch()

    @override
    async def tokenize(
        self, texts: Sequence[str], lane: Lane, input_type: InputType
    ) -> Sequence[Sequence[Ids]]:
        return await self._shortest.tokenize(texts, lane, input_type)

    @override
    async def infer(self, slot: int, windows: Sequence[Ids]) -> Matrix:
        is_express = slot == self.slots - 1

        async def ask(engine: AsyncEngine) -> Matrix:
            own_slot = engine.slots - 1 if is_express else slot % (engine.slots - 1)
            return await engine.infer(own_slot, windows)

        return await self._pool.ask(ask)

    async def check(self) -> None:
        """Checks that the servers give the same vector for a text; one that is away is left out.

        Raises:
            FailedPreconditionError: ENGINE_ARGUMENTS.
        """
        vectors = [
            vector
            for engine in self._pool.engines
            if (vector := await _embed_probe(engine)) is not None
        ]
        lengths = {engine.profile.dimensions for engine in self._pool.engines}
        if len(lengths) > 1 or any(one @ vectors[0] < SAME_COSINE for one in vectors):
            raise FailedPreconditionError(
                "ENGINE_ARGUMENTS",
                f"the servers of {self.profile.name!r} give different vectors for the same text:"
                " they have different models, or dimensions; give each model its own name",
            )

    @override
    def close(self) -> None:
        for engine in self._pool.engines:
            engine.close()


async def _embed_probe(engine: AsyncEngine) -> Vector | None:
    """The unit vector of a text; None if the engine is away."""
    [[ids]] = await engine.tokenize([PROBE], Lane.INTERACTIVE, InputType.PASSAGE)
    try:
        [vector] = await infer(engine, 0, [ids])
    except (UnavailableError, OverloadedError):
        return None
    unit: Vector = vector / np.linalg.norm(vector)
    return unit
