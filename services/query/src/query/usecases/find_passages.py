"""Finds the passages that answer a question best."""

import asyncio
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from chassis.base.errors import UnavailableError
from query.domain import Hit, Question
from query.retrieval.fusion import Ranked
from query.retrieval.lexical import encode_question
from query.retrieval.vector_store import Filter, Probe, TenantScope, VectorStore
from query.usecases.ports import Embedder, Found, Ledger, Wanted

REBUILDING_RETRY_S: Final = 5.0
# Candidates looked up at first for each requested hit.
LOOK_UP_FIRST: Final = 3
# The reason of a vector store that answers but has lost its points.
STORE_MISSING: Final = "VECTORS_STORE_MISSING"


@dataclass(slots=True)
class Serving:
    """The complete vector store, if one is known, and its problem, if it has one.

    `store_id` is None until a complete store was found, and during a rebuild. A store that did not
    answer is still asked, because it may be back before the next check. `progress` rises during a
    rebuild. `missed` is set when a search misses the store, so that the next check comes at once.
    """

    store_id: UUID | None = None
    problem: str = "vector store not seen yet"
    progress: int = 0
    missed: asyncio.Event = field(default_factory=asyncio.Event)

    def count(self, rebuilt: int, total: int) -> None:
        """Records how many passages have their point again; `progress` never falls."""
        self.problem = f"vector store is being rebuilt: {rebuilt:,} of {total:,} passages"
        self.progress = max(self.progress, 1 + rebuilt)


@dataclass(frozen=True, slots=True)
class FindPassages:
    """Ranks passages by meaning and words, and looks up the candidates in Postgres.

    Text comes only from Postgres, after tenant, version and deletion were checked there. Searches
    are refused while the index is rebuilt, because they would find only a part.
    """

    embedder: Embedder
    vectors: VectorStore
    ledger: Ledger
    serving: Serving
    profile: str

    async def run(self, question: Question) -> list[Hit]:
        """At most `question.limit` hits, best first; equal scores in the order of their ids.

        Raises:
            UnavailableError: VECTORS_REBUILDING, VECTORS_UNAVAILABLE, INFERENCE_UNAVAILABLE,
                DATABASE_UNAVAILABLE.
            OverloadedError: one of them is full.
        """
        store_id = self.serving.store_id
        if store_id is None:
            raise rebuilding_error()
        ranked = await self._rank(question)
        # The first few are nearly always enough, because few candidates are deleted or superseded.
        # But many good ones may belong to one document.
        first = len(ranked.point_ids)
        if not question.one_per_document:
            first = min(first, question.limit * LOOK_UP_FIRST)
        found = await self._look_up(question, ranked, first)
        if len(found.hits) < question.limit and first < len(ranked.point_ids):
            found = await self._look_up(question, ranked, len(ranked.point_ids))
        # The store was complete during the search only if it is the same before and after.
        if found.complete_store != store_id:
            self.serving.missed.set()
            raise rebuilding_error()
        return list(found.hits)

    async def _look_up(self, question: Question, ranked: Ranked, first: int) -> Found:
        wanted = Wanted(
            point_ids=ranked.point_ids[:first],
            scores=ranked.scores[:first],
            collection=question.collection,
            limit=question.limit,
            one_per_document=question.one_per_document,
        )
        return await self.ledger.look_up(question.tenant, self.profile, wanted)

    async def _rank(self, question: Question) -> Ranked:
        collections = {f"collections/{question.collection}"} if question.collection else set()
        probe = Probe(
            dense=await self.embedder.embed_question(question.text),
            sparse=encode_question(question.text),
            limit=question.limit,
            within=Filter(collections=frozenset(collections)),
        )
        try:
            return await self.vectors.search(TenantScope(question.tenant), probe)
        except UnavailableError as error:
            if error.reason == STORE_MISSING:
                self.serving.missed.set()
                raise rebuilding_error() from error
            raise


def rebuilding_error() -> UnavailableError:
    """VECTORS_REBUILDING: the vector store has not all points yet."""
    return UnavailableError(
        "VECTORS_REBUILDING",
        "the index is being rebuilt; retry later",
        retry_after_s=REBUILDING_RETRY_S,
    )
