"""What people see of a document: its file, its state and the notes of its reader."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from aquifer.ingest.v1.collection_pb2 import CollectionDeletion
from aquifer.ingest.v1.document_pb2 import DeletionReceipt, Document, DocumentVersion, Note
from aquifer_cli import documents, show
from aquifer_cli.outcome import outcome_of
from aquifer_cli.screen import Screen

from .loopback import FAILED, INDEXED, PREPARED, SUPERSEDED, Ingest, items, name, send, serving

NOTES = [
    Note(code="ENCODING_DETECTED", detail="read as windows-1251, confidence 0.93"),
    Note(code="TEXT_REPAIRED", detail="2 damaged places became U+FFFD"),
]
REPORT = Document(
    name="collections/c/documents/txt~~0f3e",
    version=3,
    live_version=2,
    state=PREPARED,
    file_name="報告書.txt",
    title="Wells",
    media_type="text/plain",
    size_bytes=2_319,
    sha256="ab" * 32,
    chunk_count=1_204,
    create_time=Timestamp(seconds=1_767_323_045, nanos=678_000_000),
    metadata={"year": "1987", "author": "Ada"},
    notes=NOTES,
)
NOTE = "TEXT_REPAIRED: 2 damaged places became U+FFFD"


@pytest.fixture
def screen():
    return Screen(machine=False)


@pytest.mark.parametrize(
    ("chosen", "told"),
    [(False, "no documents; `aquifer upload ...` adds some"), (True, "no documents match")],
)
def test_an_empty_list_says_whether_something_was_left_out(screen, capsys, chosen, told):
    show.show_documents(screen, [], chosen=chosen)
    assert capsys.readouterr().out.strip() == told


def test_everything_of_a_document_is_shown_and_nothing_empty(screen, capsys):
    show.show_document(screen, REPORT)
    shown = dict.fromkeys(capsys.readouterr().out.splitlines())
    assert list(shown)[:4] == [
        "document  collections/c/documents/txt~~0f3e",
        "state     PREPARED",
        "version   3, searches find v2",
        "file      報告書.txt",
    ]
    for line in (
        "size      2.3 kB",
        "chunks    1,204",
        "created   2026-01-02 03:04:05+00:00",
        "metadata  author=Ada",
        f"note      {NOTE}",
    ):
        assert line in shown
    assert not [line for line in shown if line.startswith(("reason", "trace"))]


def test_versions_are_a_table_of_what_is_live_and_kept(screen, capsys):
    about = {"size_bytes": 2_319, "create_time": Timestamp(seconds=1_767_323_045)}
    rows = [
        DocumentVersion(version=3, state=FAILED, reason="NO_TEXT", reason_detail="empty", **about),
        DocumentVersion(version=2, state=INDEXED, live=True, bytes_kept=True, **about),
        DocumentVersion(version=1, state=SUPERSEDED, bytes_kept=True, title="Wells", **about),
    ]
    show.show_versions(screen, rows)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["ver", "state", "size", "created"],
        ["v3", "FAILED", "2.3", "kB", "2026-01-02", "03:04:05+00:00"],
        ["NO_TEXT:", "empty"],
        ["v2", "INDEXED", "live", "2.3", "kB", "2026-01-02", "03:04:05+00:00"],
        ["v1", "SUPERSEDED", "kept", "2.3", "kB", "2026-01-02", "03:04:05+00:00", "Wells"],
    ]


def test_a_pinned_document_says_what_that_means(screen, capsys):
    pinned = Document()
    pinned.CopyFrom(REPORT)
    pinned.pinned = True
    show.show_document(screen, pinned)
    assert "pinned    uploads of other bytes are refused" in capsys.readouterr().out.splitlines()


def test_the_receipt_of_a_collection_names_every_store(screen, capsys):
    receipt = DeletionReceipt(objects=12, chunks=3_400, redacted_answers=1)
    show.show_deletion(
        screen,
        CollectionDeletion(name="collections/drafts", document_count=12, receipt=receipt),
    )
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "drafts: deleted, with 12 documents"
    assert [tuple(row.rsplit(maxsplit=1)) for row in rows][1:3] == [
        ("objects", "12"),
        ("chunks", "3,400"),
    ]
    assert rows[-2].split() == ["redacted", "answers", "1"]
    assert rows[-1].split() == ["signatures", "0"]


def test_a_failed_document_is_shown_with_its_reason(screen, capsys):
    failed = Document(name=name(1), version=1, state=FAILED, reason="NO_TEXT", reason_detail="none")
    show.show_document(screen, failed)
    lines = capsys.readouterr().out.splitlines()
    assert "reason    NO_TEXT: none" in lines
    assert "version   1, searches find none" in lines


def test_a_list_names_the_file_where_the_name_does_not(screen, capsys):
    plain = Document(name="collections/c/documents/x~a.md", file_name="a.md", state=INDEXED)
    show.show_documents(screen, [REPORT, plain])
    shown = capsys.readouterr().out
    assert "1,204 chunks, 2.3 kB, 報告書.txt, Wells" in shown
    assert NOTE in shown
    assert shown.count("a.md") == 1


def test_notes_are_for_machines_too():
    notes = [{"code": note.code, "detail": note.detail} for note in NOTES]
    shown = documents.as_json(REPORT)
    assert (shown["file_name"], shown["notes"]) == ("報告書.txt", notes)
    assert outcome_of("a", REPORT).as_json()["notes"] == notes


async def test_a_finished_upload_shows_its_notes(screen, capsys):
    ingest = Ingest(notes={name(1): NOTES})
    async with serving(ingest) as (client, _):
        outcomes = await send(client, items(30), wait=True)
    show.show_outcomes(screen, outcomes)
    [head, row, below] = capsys.readouterr().out.splitlines()
    assert (head.split(), row.split()) == (["state", "ver", "document"], ["INDEXED", "v1", name(1)])
    assert below.strip() == f"file:1: ENCODING_DETECTED: {NOTES[0].detail}; {NOTE}"
