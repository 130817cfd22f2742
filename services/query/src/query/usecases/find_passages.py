"""Finds the passages that answer a question best."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import isnan
from typing import Any, Final

from chassis.base.errors import (
    FailedPreconditionError,
    FieldViolation,
    InvalidInputError,
    UnavailableError,
)
from query.domain import (
    LIMIT_MAX,
    Explanation,
    Hit,
    Passage,
    Question,
    Ranking,
    SearchResult,
    Vector,
)
from query.filters.points import (
    CLOCKS_DIFFER,
    AllPoint,
    ask_history,
    ask_points,
)
from query.names import name_collections
from query.profile import make_point_id
from query.retrieval.copies import join_copies
from query.retrieval.explanation import explain_ranking
from query.retrieval.fusion import Ranked
from query.retrieval.lexical import read_words
from query.retrieval.vector_store import DEPTH_MAX, SPELLINGS_MAX, Filter, Probe, TenantScope
from query.retrieval.wordings import merge_wordings
from query.usecases.indexes import STORE_MISSING, Index, Indexes
from query.usecases.ports import Found, HistorySpan, Ledger, Wanted
from query.usecases.reranker import Reranker
from query.usecases.stages import Stages
from query.words.terms import read_question

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
            FailedPreconditionError: HISTORY_NOT_KEPT.
            InvalidInputError: AS_OF_RANGE.
        """
        index = await self.indexes.find_live()
        for _ in range(FLIPS_MAX):
            stages = Stages()
            try:
                found = await self._find(index, question, stages)
            except UnavailableError:
                # The profile may have been flipped away and dropped since.
                live = await self.indexes.follow()
                if live is index:
                    raise
            else:
                if found.live == index.profile.name:
                    return await self._finish(index, question, found.result, stages)
                live = await self.indexes.follow()
            index = live
        raise rebuilding_error()

    async def _find(self, index: Index, question: Question, stages: Stages) -> "_Found":
        """Finds what is returned, or what is ranked again."""
        store_id = index.serving.store_id
        if store_id is None:
            raise rebuilding_error()
        texts = (question.text, *question.wordings)
        with stages.run("embed the question"):
            vectors = await index.embedder.embed_questions(question.tenant, texts)
        count = question.limit if question.reranker is None else max(question.limit, RERANKED_MIN)
        with stages.run("rank candidates") as stage:
            rankings = await _run_side_by_side(
                [
                    self._rank(index, question, text, vector, count)
                    for text, vector in zip(texts, vectors, strict=True)
                ]
            )
            ranked = merge_wordings(rankings)
            stage.passages = len(ranked.point_ids)
        with stages.run("look up passages") as stage:
            found, hits = await self._choose_hits(index, question, ranked, count)
            stage.passages = len(hits)
        if question.as_of is not None and found.span is not None:
            _check_span(question.as_of, found.span)
        # The store was complete during the search only if it is the same before and after.
        if found.complete_store != store_id:
            self.indexes.wake()
            raise rebuilding_error()
        if question.explain:
            hits = _explain_hits(hits, rankings[0])
        result = SearchResult(
            hits=hits,
            ranking=Ranking.WORDS if vectors[0] is None else Ranking.MEANING_AND_WORDS,
            words_outdated=index.serving.outdated > 0,
        )
        return _Found(result, found.live)

    async def _choose_hits(
        self, index: Index, question: Question, ranked: Ranked, count: int
    ) -> tuple[Found, Sequence[Hit]]:
        """What was looked up, and the best `count` of it.

        The first few candidates are nearly always enough, because few are deleted, superseded or
        copies. But many good ones may belong to one document.
        """
        candidates = len(ranked.point_ids)
        first = candidates if question.one_per_document else count * LOOK_UP_FIRST
        limit = count + (SPARE_HITS if question.join_copies else 0)
        found = await self._look_up(index, question, ranked, first=first, limit=limit)
        hits = _choose(found, ranked, question, count)
        if len(hits) < count and (first < candidates or len(found.hits) == limit):
            found = await self._look_up(index, question, ranked, first=candidates, limit=candidates)
            hits = _choose(found, ranked, question, count)
        return found, hits

    async def _finish(
        self, index: Index, question: Question, found: SearchResult, stages: Stages
    ) -> SearchResult:
        """The result in its last order, with what was asked for besides."""
        if question.reranker is not None and found.hits:
            with stages.run("rerank passages") as stage:
                hits = await self._rerank(question, question.reranker, found.hits)
                stage.passages = len(hits)
            found = replace(found, hits=hits)
        if question.neighbours and found.hits:
            with stages.run("read neighbours"):
                hits = await self._add_neighbours(question, found.hits)
            found = replace(found, hits=hits)
        if question.explain:
            weights = read_question(question.text).weights
            explanation = Explanation(
                stages=stages.ended,
                terms=sorted(weights.items(), key=lambda one: (-one[1], one[0])),
                profile=index.profile.name,
            )
            found = replace(found, explanation=explanation)
        return found

    async def _rerank(
        self, question: Question, reranker: str, hits: Sequence[Hit]
    ) -> Sequence[Hit]:
        """The hits in the order of the reranker."""
        texts = [_read_whole(hit.passage) for hit in hits]
        scores = await self.reranker.score(reranker, question.text, texts)
        scored = [replace(hit, rerank_score=score) for hit, score in zip(hits, scores, strict=True)]
        # A stable sort: hits with equal scores stay in the order in which they were found.
        scored.sort(key=lambda hit: -(hit.rerank_score or 0.0))
        return scored[: question.limit]

    async def _add_neighbours(self, question: Question, hits: Sequence[Hit]) -> Sequence[Hit]:
        """The hits with the passages before and after each in its document."""
        around = await self.ledger.list_neighbours(
            question.tenant,
            question.held,
            [hit.passage for hit in hits],
            question.neighbours,
            question.as_of,
        )
        return [
            replace(
                hit,
                before=tuple(one for one in some if one.ordinal < hit.passage.ordinal),
                after=tuple(one for one in some if one.ordinal > hit.passage.ordinal),
            )
            for hit, some in zip(hits, around, strict=True)
        ]

    async def _look_up(
        self, index: Index, question: Question, ranked: Ranked, *, first: int, limit: int
    ) -> Found:
        wanted = Wanted(
            held=question.held,
            point_ids=ranked.point_ids[:first],
            scores=ranked.scores[:first],
            collections=name_collections(question.collection, question.collections),
            limit=limit,
            one_per_document=question.one_per_document,
            where=question.where,
            as_of=question.as_of,
        )
        return await self.ledger.look_up(question.tenant, index.profile.name, wanted)

    async def _rank(
        self, index: Index, question: Question, text: str, vector: Vector | None, count: int
    ) -> Ranked:
        """The candidates for one wording of the question."""
        words = read_words(text)
        probe = Probe(
            dense=vector,
            sparse=words.vector,
            spellings=words.spellings[:SPELLINGS_MAX],
            limit=min(count + SPARE_HITS, LIMIT_MAX),
            diversity=question.diversity if vector is not None else 0.0,
            within=_restrict(question),
        )
        try:
            return await index.vectors.search(TenantScope(question.tenant, question.held), probe)
        except UnavailableError as error:
            if error.reason == STORE_MISSING:
                self.indexes.wake()
                raise rebuilding_error() from error
            raise


def _restrict(question: Question) -> Filter:
    """The points that a search may find."""
    where = None if question.where is None else ask_points(question.where)
    if question.as_of is not None:
        then = ask_history(question.as_of)
        where = then if where is None else AllPoint((where, then))
    return Filter(
        collections=name_collections(question.collection, question.collections),
        where=where,
        live_only=question.as_of is None,
    )


def _check_span(as_of: datetime, span: HistorySpan) -> None:
    """Checks that every version that was live at a time is kept."""
    if span.since is None:
        raise FailedPreconditionError(
            "HISTORY_NOT_KEPT",
            "superseded versions are not kept here; AQUIFER_HISTORY_DAYS of query keeps them",
        )
    if not span.since <= as_of <= span.now + CLOCKS_DIFFER:
        # Rounded up: a time that somebody is told must not be refused.
        rounded = span.since + timedelta(seconds=1) - timedelta(microseconds=1)
        earliest = rounded.isoformat(timespec="seconds")
        detail = f"searches can look back to {earliest}, and not ahead"
        raise InvalidInputError(
            "AS_OF_RANGE",
            detail,
            fields=[FieldViolation("as_of", detail)],
            earliest=span.since.isoformat(),
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """A result, and the profile that was live when its passages were read."""

    result: SearchResult
    live: str


async def _run_side_by_side(searches: Sequence[Coroutine[Any, Any, Ranked]]) -> Sequence[Ranked]:
    """The results in order; if one search fails, the others are cancelled and its error raised.

    A `TaskGroup` of Python 3.11 would leave this task marked as cancelled after such an error.
    """
    tasks = [asyncio.create_task(search) for search in searches]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


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


def _explain_hits(hits: Sequence[Hit], ranked: Ranked) -> Sequence[Hit]:
    """The hits with their explanation, as far as the question itself found them."""
    explained = explain_ranking(ranked, DEPTH_MAX)
    return [
        replace(hit, explained=explained.get(str(make_point_id(hit.passage.chunk_id))))
        for hit in hits
    ]


def _read_score(score: float) -> float | None:
    return None if isnan(score) else score


def rebuilding_error() -> UnavailableError:
    """VECTORS_REBUILDING: the vector store has not all points yet."""
    return UnavailableError(
        "VECTORS_REBUILDING",
        "the index is being rebuilt; retry later",
        retry_after_s=REBUILDING_RETRY_S,
    )
