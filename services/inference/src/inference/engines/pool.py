"""Several engines behind one name: calls are shared by weight, and go on when one fails."""

import random
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import reduce

from typing_extensions import override

from chassis.base.errors import OverloadedError, UnavailableError
from inference.domain import ModelCard
from inference.generation import Generation, Step
from inference.ports import Generator, TokenCounter


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An engine and its share of the calls; 0: only when all others fail."""

    generator: Generator
    weight: int


@dataclass(frozen=True, slots=True)
class EnginePool(Generator, TokenCounter):
    """See `Generator`; `members` have the same name. It can do what all of them can.

    A call goes to the next member if one is away, fails or is full before its first step.
    """

    members: Sequence[Member]
    dice: random.Random = field(default_factory=random.Random)

    @property
    @override
    def card(self) -> ModelCard:
        cards = [member.generator.card for member in self.members]
        return replace(
            cards[0],
            engine=", ".join(dict.fromkeys(card.engine for card in cards)),
            description=f"{len(cards)} engines; {cards[0].description}",
            capabilities=reduce(frozenset.intersection, (card.capabilities for card in cards)),
            context_tokens=min(card.context_tokens for card in cards),
            device=", ".join(dict.fromkeys(card.device for card in cards if card.device)),
        )

    @override
    async def generate(self, request: Generation) -> AsyncGenerator[Step, None]:
        failure: UnavailableError | OverloadedError | None = None
        for generator in self._choose():
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
        failure: UnavailableError | OverloadedError | None = None
        for generator in self._choose():
            assert isinstance(generator, TokenCounter), "the card of the pool says so"
            try:
                return await generator.count(texts)
            except (UnavailableError, OverloadedError) as error:
                failure = error
        assert failure is not None, "a pool has members"
        raise failure

    def _choose(self) -> Iterator[Generator]:
        """All members, in an order drawn by their weights; those without weight come last."""
        left = [member for member in self.members if member.weight]
        while left:
            [chosen] = self.dice.choices(left, [member.weight for member in left])
            left.remove(chosen)
            yield chosen.generator
        yield from (member.generator for member in self.members if not member.weight)
