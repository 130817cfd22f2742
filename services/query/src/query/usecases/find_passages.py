"""Finds the passages that answer a question best."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Final

from chassis.base.errors import UnavailableError
from query.domain import LIMIT_MAX, Hit, Passage, Question, Ranking, SearchResult, Vector
from query.filters.points import ask_points
from query.profile import make_point_id
from query.retrieval.copies import join_copies
from query.retrieval.fusion import Ranked
from query.retrieval.lexical import read_words
from query.retrieval.vector_store import SPELLINGS_MAX, Filter, Probe, TenantScope
from query.usecases.indexes import STORE_MISSING, Index, Indexes
from query.usecases.ports import Found, Ledger, Wanted
from query.usecases.reranker import Reranker

REBUILDING_RETRY_S: Final = 5.0
# Candidates looked up at first for each requested hit.
LOOK_UP_FIRST: Final = 3
# Hits that are ranked again, at least; a passage below them is seldom the best.
RERANKED_MIN: Final = 50
# As inference takes them.
RERANK_MAX_CHARS: Final = 8_192
# Hits looked up besides, because some may be copies of others.
SPARE_HITS: Final = 5
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
    reranker: Reranker

    async def run(self, question: Question) -> SearchResult:
        """At most `question.limit` hits, best first; equal scores in the order of their ids.

        Raises:
            UnavailableError: VECTORS_REBUILDING, VECTORS_UNAVAILABLE, INFERENCE_UNAVAILABLE,
                DATABASE_UNAVAILABLE.
            OverloadedError: one of them is full.
            NotFoundError, InvalidInputError: as `Reranker`.
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
                    return await self._rerank(question, found.result)
                live = await self.indexes.follow()
            index = live
        raise rebuilding_error()

    async def _find(self, index: Index, question: Question) -> "_Found":
        """Finds what is returned, or what is ranked again."""
        store_id = index.serving.store_id
        if store_id is None:
            raise rebuilding_error()
        vector = await index.embedder.embed_question(question.text)
        count = question.limit if question.reranker is None else max(question.limit, RERANKED_MIN)
        ranked = await self._rank(index, question, vector, count)
        candidates = len(ranked.point_ids)
        # The first few are nearly always enough, because few candidates are deleted, superseded or
        # copies. But many good ones may belong to one document.
        first = candidates if question.one_per_document else count * LOOK_UP_FIRST
        limit = count + (SPARE_HITS if question.join_copies else 0)
        found = await self._look_up(index, question, ranked, first=first, limit=limit)
        hits = _choose(found, ranked, question, count)
        if len(hits) < count and (first < candidates or len(found.hits) == limit):
            found = await self._look_up(index, question, ranked, first=candidates, limit=candidates)
            hits = _choose(found, ranked, question, count)
        # The store was complete during the search only if it is the same before and after.
        if found.complete_store != store_id:
            self.indexes.wake()
            raise rebuilding_error()
        ranking = Ranking.WORDS if vector is None else Ranking.MEANING_AND_WORDS
        outdated = index.serving.outdated > 0
        result = SearchResult(hits=hits, ranking=ranking, words_outdated=outdated)
        return _Found(result, found.live)

    async def _rerank(self, question: Question, found: SearchResult) -> SearchResult:
        """The result in the order of the reranker, if one was asked for."""
        if question.reranker is None or not found.hits:
            return found
        texts = [_read_whole(hit.passage) for hit in found.hits]
        scores = await self.reranker.score(question.reranker, question.text, texts)
        scored = [
            replace(hit, rerank_score=score) for hit, score in zip(found.hits, scores, strict=True)
        ]
        # A stable sort: hits with equal scores stay in the order in which they were found.
        scored.sort(key=lambda hit: -(hit.rerank_score or 0.0))
        return replace(found, hits=scored[: question.limit])

    async def _look_up(
        self, index: Index, question: Question, ranked: Ranked, *, first: int, limit: int
    ) -> Found:
        wanted = Wanted(
            held=question.held,
            point_ids=ranked.point_ids[:first],
            scores=ranked.scores[:first],
            collection=question.collection,
            limit=limit,
            one_per_document=question.one_per_document,
            where=question.where,
        )
        return await self.ledger.look_up(question.tenant, index.profile.name, wanted)

    async def _rank(
        self, index: Index, question: Question, vector: Vector | None, count: int
    ) -> Ranked:
        collections = {f"collections/{question.collection}"} if question.collection else set()
        words = read_words(question.text)
        probe = Probe(
            dense=vector,
            sparse=words.vector,
            spellings=words.spellings[:SPELLINGS_MAX],
            limit=min(count + SPARE_HITS, LIMIT_MAX),
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


@dataclass(frozen=True, slots=True)
class _Found:
    """A result, and the profile that was live when its passages were read."""

    result: SearchResult
    live: str


def _read_whole(passage: Passage) -> str:
    """A passage below its title and headings, as long as a reranker may read."""
    return f"{passage.title}\n{passage.text_in_context}".strip()[:RERANK_MAX_CHARS]


def _choose(found: Found, ranked: Ranked, question: Question, count: int) -> Sequence[Hit]:
    """At most `count` hits with the scores of both lists."""
    rows = {point_id: row for row, point_id in enumerate(ranked.point_ids)}
    scored: list[Hit] = []
    for hit in found.hits:
        row = rows[str(make_point_id(hit.passage.chunk_id))]
        cosine, bm25 = _read_score(ranked.cosines[row]), _read_score(ranked.bm25s[row])
        scored.append(replace(hit, cosine=cosine, bm25=bm25))
    if question.join_copies:
        return join_copies(scored, count)
    return scored[:count]


def _read_score(score: float) -> float | None:
    return None if isnan(score) else score


def rebuilding_error() -> UnavailableError:
    """VECTORS_REBUILDING: the vector store has not all points yet."""
    return UnavailableError(
        "VECTORS_REBUILDING",
        "the index is being rebuilt; retry later",
        retry_after_s=REBUILDING_RETRY_S,
    )
