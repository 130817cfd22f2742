"""Finds the passages that answer a question best."""

from dataclasses import dataclass
from typing import Final

from chassis.base.errors import UnavailableError
from query.domain import Hit, Question
from query.filters.points import ask_points
from query.retrieval.fusion import Ranked
from query.retrieval.lexical import read_words
from query.retrieval.vector_store import SPELLINGS_MAX, Filter, Probe, TenantScope
from query.usecases.indexes import STORE_MISSING, Index, Indexes
from query.usecases.ports import Found, Ledger, Wanted

REBUILDING_RETRY_S: Final = 5.0
# Candidates looked up at first for each requested hit.
LOOK_UP_FIRST: Final = 3
# More flips during one search than anybody makes.
FLIPS_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class FindPassages:
    """Ranks passages by meaning and words, and looks up the candidates in Postgres.

    Text comes only from Postgres, after tenant, labels, version and deletion were checked there.
    Searches are refused while the index is rebuilt, because they would find only a part.

    A search uses one index from the question's vector to the candidates. The statement that reads
    the passages says which profile is live; if that is another one, the search runs again there. So
    from the moment of a flip no search answers from the old index, in any process.
    """

    indexes: Indexes
    ledger: Ledger

    async def run(self, question: Question) -> list[Hit]:
        """At most `question.limit` hits, best first; equal scores in the order of their ids.

        Raises:
            UnavailableError: VECTORS_REBUILDING, VECTORS_UNAVAILABLE, INFERENCE_UNAVAILABLE,
                DATABASE_UNAVAILABLE.
            OverloadedError: one of them is full.
        """
        index = await self.indexes.find_live()
        for _ in range(FLIPS_MAX):
            try:
                found = await self._find(index, question)
            except UnavailableError:
                # The profile may have been flipped away and dropped since.
                live = await self.indexes.follow()
                if live is index:
                    raise
            else:
                if found.live == index.profile.name:
                    return list(found.hits)
                live = await self.indexes.follow()
            index = live
        raise rebuilding_error()

    async def _find(self, index: Index, question: Question) -> Found:
        store_id = index.serving.store_id
        if store_id is None:
            raise rebuilding_error()
        ranked = await self._rank(index, question)
        # The first few are nearly always enough, because few candidates are deleted or superseded.
        # But many good ones may belong to one document.
        first = len(ranked.point_ids)
        if not question.one_per_document:
            first = min(first, question.limit * LOOK_UP_FIRST)
        found = await self._look_up(index, question, ranked, first)
        if len(found.hits) < question.limit and first < len(ranked.point_ids):
            found = await self._look_up(index, question, ranked, len(ranked.point_ids))
        # The store was complete during the search only if it is the same before and after.
        if found.complete_store != store_id:
            self.indexes.wake()
            raise rebuilding_error()
        return found

    async def _look_up(self, index: Index, question: Question, ranked: Ranked, first: int) -> Found:
        wanted = Wanted(
            held=question.held,
            point_ids=ranked.point_ids[:first],
            scores=ranked.scores[:first],
            collection=question.collection,
            limit=question.limit,
            one_per_document=question.one_per_document,
            where=question.where,
        )
        return await self.ledger.look_up(question.tenant, index.profile.name, wanted)

    async def _rank(self, index: Index, question: Question) -> Ranked:
        collections = {f"collections/{question.collection}"} if question.collection else set()
        words = read_words(question.text)
        probe = Probe(
            dense=await index.embedder.embed_question(question.text),
            sparse=words.vector,
            spellings=words.spellings[:SPELLINGS_MAX],
            limit=question.limit,
            within=Filter(
                collections=frozenset(collections),
                where=None if question.where is None else ask_points(question.where),
            ),
        )
        try:
            return await index.vectors.search(TenantScope(question.tenant, question.held), probe)
        except UnavailableError as error:
            if error.reason == STORE_MISSING:
                self.indexes.wake()
                raise rebuilding_error() from error
            raise


def rebuilding_error() -> UnavailableError:
    """VECTORS_REBUILDING: the vector store has not all points yet."""
    return UnavailableError(
        "VECTORS_REBUILDING",
        "the index is being rebuilt; retry later",
        retry_after_s=REBUILDING_RETRY_S,
    )
