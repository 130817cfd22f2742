"""Find the passages that answer a question best."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from chassis.base.errors import UnavailableError
from query.domain import Hit, Question
from query.retrieval.fusion import Ranked
from query.retrieval.lexical import encode_question
from query.retrieval.vector_store import Filter, Probe, TenantScope, VectorStore
from query.usecases.ports import Embedder, Found, Ledger, Wanted

REBUILDING_RETRY_S: Final = 5.0
# Candidates looked up at once for each hit that is asked for.
LOOK_UP_FIRST: Final = 3
# What a vector store answers that is there and has lost its points.
STORE_MISSING: Final = "VECTORS_STORE_MISSING"


@dataclass(slots=True)
class Serving:
    """The vector store that was seen to hold every point, and what is wrong with it, if anything.

    `store_id` is None until one was seen, and while it is rebuilt. A store that is merely away is
    still asked: it may be back sooner than anybody looks. `progress` rises while it is rebuilt.
    """

    store_id: UUID | None = None
    trouble: str = "vector store not seen yet"
    progress: int = 0

    def count(self, rebuilt: int, total: int) -> None:
        """Notes how many of all passages have their point again; `progress` never falls."""
        self.trouble = f"vector store is being rebuilt: {rebuilt:,} of {total:,} passages"
        self.progress = max(self.progress, 1 + rebuilt)


@dataclass(frozen=True, slots=True)
class FindPassages:
    """Ranks passages by meaning and words; what the vector store says is looked up again.

    Text comes from Postgres alone, after tenant, version and deletion were checked there. While
    the index is being rebuilt nothing is found rather than a part of it.
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
            raise _rebuilding_error()
        ranked = await self._rank(question)
        # The first few nearly always suffice: candidates that do not stand any more are rare. Many
        # good ones may be of one document, though.
        first = len(ranked.point_ids)
        if not question.one_per_document:
            first = min(first, question.limit * LOOK_UP_FIRST)
        found = await self._look_up(question, ranked, first)
        if len(found.hits) < question.limit and first < len(ranked.point_ids):
            found = await self._look_up(question, ranked, len(ranked.point_ids))
        # The same store before and after: it was whole all the while in between.
        if found.complete_store != store_id:
            raise _rebuilding_error()
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
                raise _rebuilding_error() from error
            raise


def _rebuilding_error() -> UnavailableError:
    return UnavailableError(
        "VECTORS_REBUILDING",
        "the index is being rebuilt from the passages",
        retry_after_s=REBUILDING_RETRY_S,
    )
