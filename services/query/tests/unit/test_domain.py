"""What makes a version, a batch, a question and an answer valid."""

from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from chassis.base.errors import DataLossError, InvalidInputError
from query.answer import Answer, Citation, Exchange, Finish, FinishReason, Quote
from query.description import Description
from query.domain import Batch, Hit, PageBreak, Passage, Standing, Version
from query.profile import make_point_id
from query.usecases.ask import cite, list_sources, to_event

PUMP = Version(document="collections/manuals/documents/pump", number=2)
VALVE = Version(document="collections/manuals/documents/valve", number=1)


def passage(ordinal: int = 0, text: str = "the impeller wears", version: Version = PUMP) -> Passage:
    return Passage(
        version=version,
        ordinal=ordinal,
        chunk_id=UUID(int=ordinal),
        text=text,
        title="A manual",
        start=0,
        end=len(text),
        page=0,
        ingest_trace_id="",
    )


def hits(*passages: Passage) -> list[Hit]:
    return [Hit(passage=one, score=0.5) for one in passages]


@pytest.mark.parametrize(("offset", "page"), [(0, 3), (9, 3), (10, 4), (19, 4), (20, 7), (29, 7)])
def test_a_quote_stands_on_the_page_it_starts_on(offset, page):
    breaks = (PageBreak(110, 4), PageBreak(120, 7))
    one = replace(passage(text="x" * 30), start=100, end=130, page=3, page_breaks=breaks)
    cited = cite(hits(one), Quote(passage=0, start=offset, end=30, marker="[1]"))
    assert cited.page == page


def batch(**changes) -> Batch:
    passages = (passage(0), passage(1))
    settings = {
        "version": PUMP,
        "number": 0,
        "count": 1,
        "chunk_count": 2,
        "description": Description(title="A manual"),
        "passages": passages,
        "point_ids": tuple(one.chunk_id for one in passages),
        "vectors": np.eye(2, 4, dtype=np.float32),
    }
    return Batch(**settings | changes)


def answer(*citations: Citation, generative: bool = False) -> Answer:
    return Answer(
        answer_id=UUID(int=7),
        tenant="acme",
        principal="user:ada",
        question="why",
        text="because [1]",
        citations=citations,
        finish=Finish(
            reason=FinishReason.STOP,
            input_tokens=3,
            output_tokens=2,
            model="m",
            generative=generative,
            confidence=0.5,
        ),
        trace_id="1" * 32,
    )


def test_a_point_id_follows_from_its_chunk_and_never_changes():
    chunk_id = UUID("6f1c0b4e-5a52-4c55-9c5f-2f2a2f6d8f10")
    assert make_point_id(chunk_id) == UUID("0c538419-2b36-512c-899a-e0cb6ae06e96")


@pytest.mark.parametrize(
    ("document", "number", "reason"),
    [
        ("pump", 1, "DOCUMENT_NAME"),
        ("collections/a/documents/", 1, "DOCUMENT_NAME"),
        ("collections/a/documents/b/c", 1, "DOCUMENT_NAME"),
        ("collections/a/documents/b", 0, "VERSION_INVALID"),
        ("collections/a/documents/b", 2**63, "VERSION_INVALID"),
    ],
)
def test_a_version_that_could_not_exist_is_refused(document, number, reason):
    with pytest.raises(InvalidInputError) as refused:
        Version(document=document, number=number)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("standing", "wanted"),
    [
        (Standing(), {1, 2, 3}),
        (Standing(live_version=2), {2, 3}),
        (Standing(tombstone_version=2), {3}),
        (Standing(live_version=1, tombstone_version=3), set()),
        (Standing(live_version=1, failed_versions=frozenset({2})), {1, 3}),
    ],
)
def test_only_what_may_still_be_seen_is_wanted(standing, wanted):
    assert {version for version in (1, 2, 3) if standing.is_wanted(version)} == wanted


@pytest.mark.parametrize("length", [0.98, 1.02, 0.0, 1e30, float("nan"), float("inf")])
def test_vectors_without_unit_length_are_refused(length):
    vectors = np.eye(2, 4, dtype=np.float32)
    vectors[1, 1] = length
    with pytest.raises(InvalidInputError) as refused:
        batch(vectors={"one": np.eye(2, 4, dtype=np.float32), "other": vectors})
    assert refused.value.reason == "VECTOR_LENGTH"


def test_the_rounding_of_half_precision_is_no_fault():
    vectors = np.eye(2, 4, dtype=np.float32) * np.float32(1.004)
    assert batch(vectors={"one": vectors}).point_ids


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"passages": ()}, "BATCH_SIZE"),
        ({"passages": tuple(passage(n) for n in range(33)), "chunk_count": 40}, "BATCH_SIZE"),
        ({"passages": (passage(0), passage(0))}, "ORDINAL_INVALID"),
        ({"passages": (passage(0), passage(2))}, "ORDINAL_INVALID"),
        ({"point_ids": (UUID(int=1), UUID(int=1))}, "CHUNK_ID_INVALID"),
        ({"passages": (passage(0), passage(1, text=""))}, "TEXT_LENGTH"),
        ({"number": 1}, "BATCH_NUMBER"),
    ],
)
def test_a_batch_that_can_not_be_stored_is_refused(changes, reason):
    with pytest.raises(InvalidInputError) as refused:
        batch(**changes)
    assert refused.value.reason == reason


def test_a_quote_is_cut_from_its_passage():
    cited = cite(
        hits(passage(0), passage(1, "grease it")), Quote(passage=1, start=0, end=6, marker="[1]")
    )
    assert (cited.quote, cited.passage.ordinal, cited.marker) == ("grease", 1, "[1]")
    assert cited.score == 0.5


@pytest.mark.parametrize(("number", "start", "end"), [(2, 0, 1), (-1, 0, 1), (0, 5, 5), (0, 0, 99)])
def test_a_quote_from_nowhere_is_an_error(number, start, end):
    with pytest.raises(DataLossError):
        cite(hits(passage()), Quote(passage=number, start=start, end=end, marker="[1]"))


def test_a_quoting_model_repeats_what_it_cites_a_composing_one_what_it_saw():
    shown = [passage(0), passage(1, version=VALVE)]
    cited = cite(hits(*shown), Quote(passage=0, start=0, end=3, marker="[1]"))
    assert list_sources(answer(cited), shown, []) == [PUMP]
    assert list_sources(answer(cited, generative=True), shown, []) == [PUMP, VALVE]
    assert list_sources(answer(), shown, []) == []


def test_a_composing_model_also_repeats_what_earlier_answers_saw():
    earlier = [Exchange(question="q", answer="a", sources=(VALVE, PUMP))]
    assert list_sources(answer(), [passage()], earlier) == []
    assert list_sources(answer(generative=True), [passage()], earlier) == [PUMP, VALVE]


def test_each_cited_version_is_told_once():
    quotes = [Quote(passage=0, start=n, end=n + 1, marker=f"[{n}]") for n in range(2)]
    fact = to_event(answer(*(cite(hits(passage()), quote) for quote in quotes)))
    assert [(one.document, one.version) for one in fact.cited] == [(PUMP.document, 2)]


def test_an_answer_without_a_deleted_version_keeps_the_other_quotes():
    shown = [passage(0), passage(1, version=VALVE)]
    citations = [
        cite(hits(*shown), Quote(passage=n, start=0, end=3, marker=f"[{n}]")) for n in (0, 1)
    ]
    given = answer(*citations)
    assert given.redact(set()) is given
    left = given.redact({PUMP})
    assert (left.text, left.citations[0].quote, left.citations[0].passage.text) == ("", "", "")
    assert left.citations[0].passage.version == PUMP
    assert left.citations[1] == citations[1]
