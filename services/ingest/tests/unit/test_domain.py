"""Names, metadata, batches and waits: what is valid, and what follows from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.base.errors import InvalidInputError
from ingest.cutting import BATCH_MAX_BYTES, BATCH_MAX_CHUNKS, batch_numbers, chunk_id
from ingest.domain import (
    MOVES,
    STEPS,
    Draft,
    Origin,
    Reference,
    State,
    check_name,
    source_states,
)
from ingest.pace import Pace, work_s

LONGEST = "x" * 128


@pytest.mark.parametrize(
    "name",
    [
        "collections/a/documents/b",
        f"collections/{LONGEST}/documents/{LONGEST}",
        "collections/0.~_-/documents/Report-2026.pdf",
    ],
)
def test_a_good_name_is_accepted(name: str):
    check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        "collections/a",
        "collections/a/documents/",
        "collections//documents/b",
        "collections/.a/documents/b",
        "collections/a/documents/b/c",
        "collections/a/documents/b\n",
        "collections/a/documents/ü",
        "collections/a/documents/../b",
        f"collections/a/documents/{LONGEST}x",
        "/collections/a/documents/b",
    ],
)
def test_any_other_name_is_refused_naming_the_field(name: str):
    with pytest.raises(InvalidInputError) as refusal:
        check_name(name, field="document")
    assert refusal.value.reason == "DOCUMENT_NAME"
    assert [violation.field for violation in refusal.value.fields] == ["document"]


def draft(**changes: object) -> Draft:
    values = {
        "tenant": "acme",
        "name": "collections/a/documents/b",
        "metadata": {},
        "origin": Origin(),
    }
    return Draft(**(values | changes))  # type: ignore[arg-type]


def test_metadata_up_to_its_bounds_is_accepted():
    draft(
        metadata={f"{n:064}": "v" * 436 for n in range(32)},
        title="t" * 512,
        file_name="f" * 255,
        origin=Origin(request_id="r" * 128, correlation_id="c" * 128),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {f"{n}": "v" for n in range(33)}},
        {"metadata": {"": "v"}},
        {"metadata": {"k" * 65: "v"}},
        {"metadata": {"k": "v" * 513}},
        {"metadata": {"k": "\x00"}},
        {"metadata": {f"{n:064}": "v" * 438 for n in range(32)}},
        {"metadata": {f"{n}": "\N{DROPLET}" * 512 for n in range(8)}},
        {"title": "t" * 513},
        {"file_name": "f" * 256},
        {"media_type": "m\x00"},
    ],
)
def test_metadata_beyond_its_bounds_is_refused(changes):
    with pytest.raises(InvalidInputError) as refusal:
        draft(**changes)
    assert refusal.value.reason == "METADATA_RANGE"


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        ({"request_id": "r" * 129}, "METADATA_RANGE"),
        ({"source": "/s"}, "UPLOAD_EVENT_ID"),
        ({"source": "s" * 513, "request_id": "e"}, "UPLOAD_EVENT_ID"),
        ({"source": "/s", "request_id": "\U0001f4a7" * 128 + "e"}, "UPLOAD_EVENT_ID"),
        ({"source": "/s", "request_id": "e\x00"}, "UPLOAD_EVENT_ID"),
        ({"source": "/s", "request_id": "e", "correlation_id": "c" * 129}, "METADATA_RANGE"),
    ],
)
def test_an_origin_that_can_not_be_kept_is_refused(origin, reason):
    with pytest.raises(InvalidInputError) as refusal:
        Origin(**origin)
    assert refusal.value.reason == reason


def test_only_an_upload_event_has_an_event_id():
    assert Origin(request_id="r").event_id == ""
    assert Origin(source="/s", request_id="e").event_id == "e"


@pytest.mark.parametrize(("sha256", "size"), [("0" * 63, 1), ("A" * 64, 1), ("0" * 64, 0)])
def test_a_reference_needs_a_checksum_and_a_size(sha256: str, size: int):
    with pytest.raises(InvalidInputError):
        Reference(uri="file:///a", sha256=sha256, size_bytes=size)


def test_every_state_is_reached_and_only_steps_and_delete_lead_on():
    reached = {target for targets in MOVES.values() for target in targets}
    assert reached == set(State) - {State.ACCEPTED}
    assert MOVES[State.DELETED] == frozenset()
    for state in set(State) - {State.DELETING, State.DELETED}:
        assert State.DELETING in MOVES[state]
    assert source_states(State.DELETED) == (State.DELETING,)
    assert set(STEPS) == {State.ACCEPTED, State.PREPARED, State.DELETING}


@given(st.lists(st.integers(1, 40_000), max_size=80))
def test_batches_are_full_but_never_too_large(sizes: list[int]):
    numbers = list(batch_numbers(sizes))
    assert len(numbers) == len(sizes)
    assert sorted(set(numbers)) == list(range(max(numbers, default=-1) + 1))
    assert numbers == sorted(numbers)
    for batch in set(numbers):
        members = [size for size, number in zip(sizes, numbers, strict=True) if number == batch]
        assert len(members) <= BATCH_MAX_CHUNKS
        assert sum(members) <= BATCH_MAX_BYTES or len(members) == 1


def test_a_chunk_keeps_its_id_and_shares_it_with_no_other():
    same = {chunk_id("acme", "d", 1, 0, "c1") for _ in range(3)}
    others = {
        chunk_id("other", "d", 1, 0, "c1"),
        chunk_id("acme", "e", 1, 0, "c1"),
        chunk_id("acme", "d", 2, 0, "c1"),
        chunk_id("acme", "d", 1, 1, "c1"),
        chunk_id("acme", "d", 1, 0, "c2"),
    }
    assert (len(same), len(others - same)) == (1, 5)


def test_waits_double_up_to_a_bound_on_top_of_the_work():
    pace = Pace(first_s=60, last_s=600)
    assert [pace.wait_s(attempt) for attempt in (0, 1, 2, 3, 4, 1_000_000)] == [
        60,
        120,
        240,
        480,
        600,
        600,
    ]
    assert pace.wait_s(0, work_s(State.PREPARED, 0, 2_000)) == 60 + 4_000
    assert work_s(State.ACCEPTED, 64 << 20, 0) == 256
    assert work_s(State.DELETING, 64 << 20, 2_000) == 0
