"""Update masks: what they select, and what they cannot name."""

from datetime import UTC, datetime

import pytest

from chassis.base.errors import InvalidInputError
from ingest.changes import read_changes
from ingest.domain import Object, Origin, State, Version

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KNOWN = Version(
    tenant="acme",
    document="collections/a/documents/b",
    number=1,
    state=State.INDEXED,
    given_title="Old",
    text_title="Of the text",
    file_name="",
    media_type_hint="",
    metadata={"a": 1, "b": ["x"], "c.d": True},
    stored=Object(key="", size_bytes=1, sha256=""),
    origin=Origin(),
    trace_id="",
    step_due_at=None,
    accepted_at=NOW,
    updated_at=NOW,
)
GIVEN = {"a": "2", "e": 5}
MERGED = {"a": "2", "b": ["x"], "c.d": True}


@pytest.mark.parametrize(
    ("paths", "title", "metadata"),
    [
        (["title"], "New", KNOWN.metadata),
        (["metadata"], "Old", GIVEN),
        (["title", "metadata"], "New", GIVEN),
        (["*"], "New", GIVEN),
        ([], "New", GIVEN),
        (["metadata.a"], "Old", MERGED),
        (["metadata.a", "metadata.a"], "Old", MERGED),
        (["metadata.`a`", "metadata.e", "title"], "New", {**MERGED, "e": 5}),
        (["metadata.b"], "Old", {"a": 1, "c.d": True}),
        (["metadata.`c.d`"], "Old", {"a": 1, "b": ["x"]}),
        (["metadata.unknown"], "Old", KNOWN.metadata),
        (["metadata", "metadata.b"], "Old", GIVEN),
    ],
)
def test_a_mask_selects_what_changes(paths, title, metadata):
    changes = read_changes(paths, title="New", metadata=GIVEN)
    assert changes.apply(KNOWN) == (title, metadata)


@pytest.mark.parametrize(
    ("title", "metadata", "expected"),
    [
        ("", None, ("Old", KNOWN.metadata)),
        ("New", None, ("New", KNOWN.metadata)),
        ("", {}, ("Old", {})),
        ("", GIVEN, ("Old", GIVEN)),
    ],
)
def test_without_a_mask_what_is_given_changes(title, metadata, expected):
    assert read_changes([], title=title, metadata=metadata).apply(KNOWN) == expected


def test_what_a_mask_names_and_nobody_gives_is_emptied():
    assert read_changes(["*"], title="", metadata=None).apply(KNOWN) == ("", {})


@pytest.mark.parametrize(
    "path",
    [
        *("name", "state", "version", "labels.a", "Title", "title.x", "", ".", "*.a", "metadatax"),
        *("metadata.", "metadata.a.b", "metadata.``", "metadata.`", "document.title", "`metadata`"),
        "x" * 10_000,
    ],
)
def test_any_other_path_is_refused(path):
    with pytest.raises(InvalidInputError) as refusal:
        read_changes(["title", path], title="New", metadata=None)
    assert refusal.value.reason == "UPDATE_MASK"
    assert [one.field for one in refusal.value.fields] == ["update_mask"]
    assert len(refusal.value.detail) < 200


def test_a_star_stands_alone():
    with pytest.raises(InvalidInputError):
        read_changes(["*", "title"], title="New", metadata=None)


@pytest.mark.parametrize(
    ("title", "metadata"),
    [
        ("t" * 513, {}),
        ("\x00", {}),
        ("", {"a": None}),
        ("", {f"{n}": n for n in range(30)}),
    ],
)
def test_the_result_keeps_the_bounds(title, metadata):
    paths = ["title", *(f"metadata.{key}" for key in metadata)]
    with pytest.raises(InvalidInputError) as refusal:
        read_changes(paths, title=title, metadata=metadata).apply(KNOWN)
    assert refusal.value.reason == "METADATA_RANGE"
