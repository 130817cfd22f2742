"""Passages, batches and questions, and their rules."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Final, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from aquifer.structs import JsonObject
from chassis.base.errors import FieldViolation, InvalidInputError
from chassis.base.filters import Expression
from chassis.base.labels import Held
from query.description import Description
from query.labels import NO_LABELS, Labels
from query.names import collection_of, name_collections

VERSION_MAX: Final = 2**63 - 1
QUESTION_MAX_CHARS: Final = 4_000
LIMIT_MAX: Final = 100
WORDINGS_MAX: Final = 4
NEIGHBOURS_MAX: Final = 3
BATCH_MAX_CHUNKS: Final = 32
TEXT_MAX_CHARS: Final = 4_096
UNIT_LENGTH_TOLERANCE: Final = 1e-2

Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a document; `document` is its resource name, versions count from 1."""

    document: str
    number: int

    def __post_init__(self) -> None:
        collection_of(self.document)
        if not 0 < self.number <= VERSION_MAX:
            raise InvalidInputError(
                "VERSION_INVALID",
                "versions count from 1",
                fields=[FieldViolation("version", "1 or more")],
                version=self.number,
            )

    @property
    def collection(self) -> str:
        """`collections/{collection}`."""
        return collection_of(self.document)


class PageBreak(NamedTuple):
    """Where a page begins in the document's cleaned text, and its number."""

    start: int
    page: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A part of one document version, the unit of retrieval.

    `start` and `end` are character offsets in the document's cleaned text. `page` is the page on
    which it begins, from 1, or 0 if the format has no pages; `page_breaks` are the further pages
    that begin inside it. `headings` are those it stands under, outermost first; `table_header` is
    the header row of the table that it continues. `lines` are where its lines stand on their pages,
    see `aquifer.lines`. `labels` are those of its document. `ingest_trace_id` is the W3C trace of
    its upload, `upload_event_id` the id of its event, if it came by one. `created_at` is when its
    version was accepted, None if that is not known. `live_at` and `superseded_at` are as in
    `Description`; only those that are compared with points have them.
    """

    version: Version
    ordinal: int
    chunk_id: UUID
    text: str
    title: str
    metadata: JsonObject = field(default_factory=dict)
    start: int
    end: int
    page: int
    page_breaks: tuple[PageBreak, ...] = ()
    headings: tuple[str, ...] = ()
    table_header: str = ""
    lines: bytes = b""
    labels: tuple[str, ...] = ()
    ingest_trace_id: str
    upload_event_id: str = ""
    created_at: datetime | None = None
    live_at: datetime | None = None
    superseded_at: datetime | None = None

    @property
    def context(self) -> str:
        """Its headings and table header; empty if it has none."""
        return "\n".join(filter(None, (" > ".join(self.headings), self.table_header)))

    @property
    def text_in_context(self) -> str:
        """What is embedded; inference joins a chunk in the same way."""
        return "\n".join(filter(None, (self.context, self.text)))

    def page_at(self, offset: int) -> int:
        """The page of the character at an offset of `text`; 0 if the format has no pages."""
        behind = bisect_right(self.page_breaks, self.start + offset, key=lambda one: one.start)
        return self.page_breaks[behind - 1].page if behind else self.page

    def redact(self) -> "Passage":
        """Removes what it tells of its document's content."""
        return replace(
            self, text="", title="", metadata={}, headings=(), table_header="", lines=b""
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some passages of a version with their vectors by the name of the profile, one row for each.

    `number` counts from 0 to `count` - 1; the version has `chunk_count` passages in all.
    """

    version: Version
    number: int
    count: int
    chunk_count: int
    description: Description
    labels: Labels = NO_LABELS
    passages: tuple[Passage, ...]
    point_ids: tuple[UUID, ...]
    vectors: Mapping[str, Matrix]

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise InvalidInputError(
                "BATCH_NUMBER", "the number of a batch must be in 0..batch_count - 1"
            )
        if not 0 < len(self.passages) <= min(BATCH_MAX_CHUNKS, self.chunk_count):
            raise InvalidInputError(
                "BATCH_SIZE", f"a batch must have 1 to {BATCH_MAX_CHUNKS} chunks of its version"
            )
        if self.count == 1 and len(self.passages) != self.chunk_count:
            raise InvalidInputError("BATCH_SIZE", "a single batch must have every chunk")
        ordinals = {passage.ordinal for passage in self.passages}
        if len(ordinals) < len(self.passages) or not (
            0 <= min(ordinals) <= max(ordinals) < self.chunk_count
        ):
            raise InvalidInputError(
                "ORDINAL_INVALID", "ordinals must differ and be in 0..chunk_count - 1"
            )
        if len(set(self.point_ids)) < len(self.passages):
            raise InvalidInputError("CHUNK_ID_INVALID", "chunk ids of a batch must differ")
        for passage in self.passages:
            _check_text(passage)
        for vectors in self.vectors.values():
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
            # Written as a negation so that NaN is refused too.
            if not bool((np.abs(lengths - 1.0) <= UNIT_LENGTH_TOLERANCE).all()):
                raise InvalidInputError("VECTOR_LENGTH", "vectors must have unit length")


def _check_text(passage: Passage) -> None:
    """Check that a text can be stored and embedded again."""
    if not 0 < len(passage.text) <= TEXT_MAX_CHARS:
        raise InvalidInputError(
            "TEXT_LENGTH", f"a passage must have 1 to {TEXT_MAX_CHARS} characters"
        )
    if "\x00" in passage.text_in_context:
        raise InvalidInputError("TEXT_NUL", "text contains the character NUL; remove it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The state of a document's versions; 0 means no version."""

    live_version: int = 0
    tombstone_version: int = 0
    failed_versions: frozenset[int] = frozenset()
    labels: Labels = NO_LABELS

    def is_wanted(self, version: int) -> bool:
        """Whether this version is live or may become live."""
        return (
            version > self.tombstone_version
            and version >= self.live_version
            and version not in self.failed_versions
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What the deletion of a document has removed so far."""

    passages: int
    points: int
    dead_letters: int
    redacted_answers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A search of a tenant, of the collections that `name_collections` names.

    It finds documents without labels, and those with one of `held`; None: with any. `where` must be
    true of them; None: nothing must. With `join_copies` passages that say the same are one hit.
    `reranker` is the model that orders the best passages again, empty for the default one; None:
    none does. `wordings` say the same in other words. `diversity`, 0 to 1, is how much the hits
    differ in meaning. Each hit comes with `neighbours` passages before and after it. `as_of`: the
    versions that were live then are searched; None: those that are live.
    """

    tenant: str
    held: Held
    text: str
    collection: str = ""
    collections: tuple[str, ...] = ()
    limit: int
    one_per_document: bool = False
    join_copies: bool = True
    reranker: str | None = None
    where: Expression | None = None
    wordings: tuple[str, ...] = ()
    diversity: float = 0.0
    neighbours: int = 0
    explain: bool = False
    as_of: datetime | None = None

    def __post_init__(self) -> None:
        for text in (self.text, *self.wordings):
            check_question(text)
        name_collections(self.collection, self.collections)
        if len(self.wordings) > WORDINGS_MAX:
            raise InvalidInputError(
                "WORDINGS_COUNT",
                f"a question has at most {WORDINGS_MAX} other wordings",
                fields=[FieldViolation("wordings", f"at most {WORDINGS_MAX}")],
            )
        if not 0 <= self.diversity <= 1:  # also false for NaN
            raise InvalidInputError(
                "DIVERSITY_RANGE",
                "diversity must be in 0..1",
                fields=[FieldViolation("diversity", "0 to 1")],
            )
        if not 0 <= self.neighbours <= NEIGHBOURS_MAX:
            raise InvalidInputError(
                "NEIGHBOURS_RANGE",
                f"neighbours must be in 0..{NEIGHBOURS_MAX}",
                fields=[FieldViolation("neighbours", f"0 to {NEIGHBOURS_MAX}")],
            )
        if not 0 < self.limit <= LIMIT_MAX:
            raise InvalidInputError(
                "LIMIT_RANGE",
                f"limit must be in 1..{LIMIT_MAX}",
                fields=[FieldViolation("limit", f"1 to {LIMIT_MAX}")],
                max_limit=LIMIT_MAX,
            )


def check_question(text: str) -> None:
    """Check that a question is not blank and not too long."""
    if not text.strip() or len(text) > QUESTION_MAX_CHARS:
        raise InvalidInputError(
            "QUESTION_LENGTH",
            f"question must hold 1 to {QUESTION_MAX_CHARS} characters and not only white space",
            fields=[FieldViolation("question", f"1 to {QUESTION_MAX_CHARS} characters")],
            max_chars=QUESTION_MAX_CHARS,
        )
    if "\x00" in text:
        raise InvalidInputError(
            "QUESTION_LENGTH",
            "question holds the character NUL, no text does",
            fields=[FieldViolation("question", "no NUL")],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Why a candidate has its score, which is `meaning` + `words` + `neighbours`.

    `meaning_rank` and `words_rank` count from 1; 0: it is not in that list. `meaning` and `words`
    are z-scores, `neighbours` is what the scores of the candidates closest to it have changed.
    `fused_rank` is its rank before copies were joined and a model ranked again.
    """

    meaning_rank: int
    words_rank: int
    meaning: float
    words: float
    neighbours: float
    fused_rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A found passage; scores are comparable only within one search.

    `cosine` and `bm25` are its scores by meaning and by words, None if it is not among the nearest.
    `rerank_score` orders the hits if they were ranked again. It stands for `copies`, which say the
    same. `before` and `after` are its neighbours in the document.
    """

    passage: Passage
    score: float
    cosine: float | None = None
    bm25: float | None = None
    rerank_score: float | None = None
    copies: tuple[Passage, ...] = ()
    before: tuple[Passage, ...] = ()
    after: tuple[Passage, ...] = ()
    explained: Explained | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """A stage of a search, and the number of passages after it, if it yields any."""

    name: str
    seconds: float
    passages: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How the order of hits came about; `terms` are those of the question with their weights."""

    stages: Sequence[StageTime]
    terms: Sequence[tuple[str, float]]
    profile: str


class Ranking(Enum):
    """What decides the order of hits."""

    MEANING_AND_WORDS = "meaning and words"
    WORDS = "words"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Hits, best first. `words_outdated`: the terms of some points are of an earlier analyser."""

    hits: Sequence[Hit]
    ranking: Ranking
    words_outdated: bool = False
    explanation: Explanation | None = None
