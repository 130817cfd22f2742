"""Remembers the vectors of questions, because people and programs ask the same ones again."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Final

from prometheus_client import Counter

from chassis.base.metrics import REGISTRY
from query.domain import Vector

REQUESTS: Final = Counter(
    "aquifer_question_vectors",
    "Questions whose vector was remembered (hit) or had to be computed (miss).",
    ("result",),
    registry=REGISTRY,
)


class QuestionVectors:
    """The vectors of the last `held_max` questions of one profile; 0 remembers none.

    A profile's name stands for one model, so an entry never becomes wrong. Tenants share none: the
    time of an answer would tell one what another has asked. Questions are kept as digests.
    """

    def __init__(self, held_max: int) -> None:
        self._held_max = held_max
        self._held: OrderedDict[bytes, Vector | None] = OrderedDict()

    async def find(
        self,
        tenant: str,
        texts: Sequence[str],
        embed: Callable[[Sequence[str]], Awaitable[Sequence[Vector | None]]],
    ) -> Sequence[Vector | None]:
        """The vectors of questions; `embed` computes those that are not remembered, in one call.

        None for one that the model cannot read, which is remembered too.
        """
        asked = {_make_key(tenant, text): text for text in texts}
        found = {key: self._held[key] for key in asked if key in self._held}
        for key in found:
            self._held.move_to_end(key)
        missing = {key: text for key, text in asked.items() if key not in found}
        REQUESTS.labels("hit").inc(len(found))
        REQUESTS.labels("miss").inc(len(missing))
        if missing:
            made = dict(zip(missing, await embed(list(missing.values())), strict=True))
            found |= made
            self._held |= made
            while len(self._held) > self._held_max:
                self._held.popitem(last=False)
        return [found[_make_key(tenant, text)] for text in texts]


def _make_key(tenant: str, text: str) -> bytes:
    # A tenant id has no slash, so no two pairs have the same key.
    return sha256(f"{tenant}/{text}".encode()).digest()
