"""What a reader had to guess or repair comes with the document, to its owner alone."""

from email.message import EmailMessage
from pathlib import Path

import pytest

from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.document_pb2 import DocumentState, Note
from ingest.domain import State
from ingest.notes import NoteCode
from services.ingest.tests.conftest import NAME, Rig, messages
from testkit.pdf import lines, pdf

from .doors import Client

FORMATS = Path(__file__).parents[4] / "docs/formats.md"
RUSSIAN = "Широкая электрификация южных губерний даст мощный толчок подъёму хозяйства. " * 3


def mail_with_attachment() -> bytes:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = "Water", "a@example.org", "b@example.org"
    mail.set_content("Water finds its way.")
    mail.add_attachment(b"Another text.", maintype="text", subtype="plain", filename="other.txt")
    mail.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="pump.png")
    return bytes(mail)


SCANNED = pdf(lines(b"First page."), lines(), lines(b"Third page."))
PAGE = (
    b"<html><head><meta charset=utf-8></head><body>" + RUSSIAN.encode("cp1251") + b"</body></html>"
)
READ = {
    "whole.txt": (b"Water finds its way.", []),
    "damaged.txt": (
        RUSSIAN.encode() + b"\xff",
        [("TEXT_REPAIRED", "1 damaged place became U+FFFD; the rest is UTF-8")],
    ),
    "wide.txt": (
        "Water finds its way.".encode("utf-16-be"),
        [("ENCODING_DETECTED", "read as utf-16-be, by the pattern of its zero bytes")],
    ),
    "old.html": (
        PAGE,
        [
            ("CHARSET_IGNORED", "the declared encoding was ignored: the bytes are not utf-8"),
            ("ENCODING_DETECTED", "read as windows-1251, confidence "),
        ],
    ),
    "scanned.pdf": (
        SCANNED,
        [("PAGES_WITHOUT_TEXT", "1 of 3 pages without readable text; they may be scans")],
    ),
    "water.eml": (mail_with_attachment(), [("ATTACHMENTS_LEFT_OUT", "1 attachment left out")]),
    "water.jsonl": (
        b'{"well": 1}\n{"well": 2\n{"well": 3}\n',
        [("LINES_KEPT_AS_TEXT", "1 line could not be read as JSON")],
    ),
    "water.csv": (
        b'well,depth\na,1\nb,"2\nc,3\nd,4\n' + b"e,5\n" * 9,
        [("QUOTES_UNMATCHED", "1 row had quotes that do not match")],
    ),
}


@pytest.mark.parametrize("file_name", READ)
async def test_a_document_has_the_notes_of_its_reader(client: Client, file_name: str):
    content, expected = READ[file_name]
    accepted = await client.send(content, file_name=file_name)
    assert (list(accepted.notes), accepted.file_name) == ([], file_name)
    await client.rig.prepare()
    await client.rig.searchable()
    document = await client.get()
    assert document.state == DocumentState.DOCUMENT_STATE_INDEXED
    assert [note.code for note in document.notes] == [code for code, _ in expected]
    for note, (_, detail) in zip(document.notes, expected, strict=True):
        assert note.detail.startswith(detail)
    assert (await client.list_all()).documents[0] == document


async def test_small_text_that_is_cut_at_once_has_notes_at_once(quick: Rig):
    content, [(code, detail)] = READ["wide.txt"]
    view = await quick.upload(content)
    assert view.version.state is State.PREPARED
    assert view.version.notes == [(code, detail)]


async def test_the_result_of_an_upload_event_has_the_notes(rig: Rig):
    content, [(code, detail)] = READ["wide.txt"]
    await rig.event(content)
    await rig.prepare()
    [indexed] = messages(await rig.searchable())
    assert indexed.notes == [Note(code=code, detail=detail)]
    [again] = messages(await rig.event(content, event_id="again"))
    assert (again.unchanged, again.notes) == (True, indexed.notes)


async def test_an_import_has_the_notes_that_are_known(client: Client):
    content, [(code, detail)] = READ["wide.txt"]
    header = pb.UploadHeader(document=NAME)
    for expected in ([], [Note(code=code, detail=detail)]):
        stream = iter([pb.ImportDocumentsRequest(header=header, content=content)])
        metadata = client.tokens.metadata()
        async for response in client.stub.ImportDocuments(stream, metadata=metadata, timeout=30):
            assert response.accepted.notes == expected
        await client.rig.prepare()


async def test_the_name_of_the_file_comes_back_as_it_was(client: Client):
    await client.send(b"Water finds its way.", file_name="報告書.txt")
    assert (await client.get()).file_name == "報告書.txt"
    await client.send(b"A new version without one.")
    assert (await client.get()).file_name == ""


async def test_a_deleted_document_has_neither(client: Client):
    await client.send(READ["damaged.txt"][0], file_name="damaged.txt")
    await client.rig.prepare()
    await client.rig.searchable()
    await client.delete()
    await client.rig.report_purged()
    document = await client.get()
    assert document.state == DocumentState.DOCUMENT_STATE_DELETED
    assert (list(document.notes), document.file_name) == ([], "")


def test_every_note_is_explained():
    page = FORMATS.read_text()
    assert [code for code in NoteCode if f"| `{code}` |" not in page] == []
