"""Remembers the vectors of questions, because people and programs ask the same ones again."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
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
        self, tenant: str, text: str, embed: Callable[[], Awaitable[Vector | None]]
    ) -> Vector | None:
        """The vector of a question; `embed` computes it if it is not remembered.

        None if the model cannot read the question, which is remembered too.
        """
        key = _make_key(tenant, text)
        if key in self._held:
            REQUESTS.labels("hit").inc()
            self._held.move_to_end(key)
            return self._held[key]
        REQUESTS.labels("miss").inc()
        vector = await embed()
        self._held[key] = vector
        while len(self._held) > self._held_max:
            self._held.popitem(last=False)
        return vector


def _make_key(tenant: str, text: str) -> bytes:
    # A tenant id has no slash, so no two pairs have the same key.
    return sha256(f"{tenant}/{text}".encode()).digest()
