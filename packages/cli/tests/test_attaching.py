"""Files to attach: their names, what is sent once, and what is said of those that fail."""

import hashlib

import pytest
from google.rpc.code_pb2 import Code

from aquifer_cli import names
from aquifer_cli.attaching import send_files
from aquifer_cli.errors import EXIT_FAILED, EXIT_USAGE, CommandError
from aquifer_cli.screen import Screen

from .loopback import FAILED, Ingest, serving


def write(path, content: str):
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def name(file_name: str, content: str) -> str:
    digest = hashlib.sha256(content.encode()).hexdigest()
    return f"collections/files/documents/{file_name}~~{digest[:12]}"


async def send(ingest, *paths) -> list[str]:
    async with serving(ingest) as (client, _):
        return await send_files(client, Screen(machine=False), paths, "files")


async def test_files_of_one_name_are_documents_of_their_own(tmp_path):
    ingest = Ingest()
    one = write(tmp_path / "a" / "report.txt", "one")
    other = write(tmp_path / "b" / "report.txt", "other")
    sent = await send(ingest, one, other)
    assert sent == [name("report.txt", "one"), name("report.txt", "other")]
    assert [ingest.contents[document] for document in sent] == [b"one", b"other"]


async def test_the_same_file_again_is_the_same_document_and_is_not_sent(tmp_path):
    ingest = Ingest()
    one = write(tmp_path / "a" / "report.txt", "one")
    copy = write(tmp_path / "b" / "report.txt", "one")
    assert await send(ingest, one, copy, one) == [name("report.txt", "one")]
    assert await send(ingest, copy) == [name("report.txt", "one")]
    assert ingest.sent == 1


async def test_without_files_nothing_is_asked():
    ingest = Ingest()
    assert await send(ingest) == []
    assert (ingest.checks, ingest.watches) == (0, 0)


async def test_a_file_that_fails_says_why_and_what_to_do(tmp_path, capsys):
    good, bad, worse = (write(tmp_path / one, one) for one in ("good", "bad", "worse"))
    ingest = Ingest(finals={name("bad", "bad"): FAILED, name("worse", "worse"): FAILED})
    with pytest.raises(CommandError) as refused:
        await send(ingest, good, bad, worse)
    error = refused.value
    assert (error.reason, error.exit_code) == ("NO_TEXT", EXIT_FAILED)
    assert f"{bad} was not attached" in error.detail
    assert f"aquifer delete {name('bad', 'bad')}" in error.hint
    said = " ".join(capsys.readouterr().err.split())
    assert f"indexed {good} as {name('good', 'good')}" in said
    assert f"NO_TEXT: {worse} was not attached" in said


async def test_a_refused_file_has_the_reason_of_the_service(tmp_path):
    ingest = Ingest(refusals=[(Code.INVALID_ARGUMENT, "DOCUMENT_TOO_LARGE")])
    with pytest.raises(CommandError) as refused:
        await send(ingest, write(tmp_path / "a.txt", "a"))
    assert refused.value.reason == "DOCUMENT_TOO_LARGE"
    assert "because of DOCUMENT_TOO_LARGE" in refused.value.detail
    assert refused.value.hint == "try another file"


async def test_a_hidden_document_of_the_same_name_asks_for_another_collection(tmp_path):
    ingest = Ingest(refusals=[(Code.PERMISSION_DENIED, "LABELS_FORBIDDEN")])
    with pytest.raises(CommandError) as refused:
        await send(ingest, write(tmp_path / "a.txt", "a"))
    assert (refused.value.reason, refused.value.exit_code) == ("LABELS_FORBIDDEN", EXIT_FAILED)
    assert "--attach-to" in refused.value.hint


async def test_more_files_than_a_conversation_takes_are_refused_before_any_is_sent(tmp_path):
    ingest = Ingest()
    one, two = (write(tmp_path / each, each) for each in ("one", "two"))
    attached = [name("one", "one"), *(name("old", str(n)) for n in range(99))]
    async with serving(ingest) as (client, _):
        screen = Screen(machine=False)
        with pytest.raises(CommandError) as refused:
            await send_files(client, screen, [one, two], "files", attached=attached)
        assert ingest.sent == 0
        assert (refused.value.reason, refused.value.exit_code) == ("DOCUMENTS_COUNT", EXIT_USAGE)
        assert "not 101" in refused.value.detail
        assert refused.value.hint
        # It is attached already, so it takes no further place.
        assert await send_files(client, screen, [one], "files", attached=attached) == attached[:1]


async def test_a_file_that_is_not_finished_in_time_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("aquifer_cli.waiting.WAIT_S", 0.2)
    with pytest.raises(CommandError) as refused:
        await send(Ingest(final_after_s=None), write(tmp_path / "a.txt", "a"))
    assert (refused.value.reason, refused.value.hint) == (
        "WAIT_EXPIRED",
        "the same command goes on",
    )


async def test_what_is_no_readable_file_is_refused_before_anything_is_sent(tmp_path):
    ingest = Ingest()
    good = write(tmp_path / "good.txt", "good")
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    for path, reason in ((tmp_path, "NOT_A_FILE"), (link, "PATH_UNKNOWN")):
        with pytest.raises(CommandError) as refused:
            await send(ingest, good, path)
        assert (refused.value.reason, refused.value.exit_code) == (reason, EXIT_USAGE)
    assert ingest.sent == 0


def test_the_name_of_any_file_and_content_is_valid():
    digest = hashlib.sha256(b"x").hexdigest()
    for file_name in ("a.txt", "Größe & mehr.pdf", "水", "x" * 255, "-", "a~~b"):
        made = names.id_from_content(file_name, digest)
        assert names.name_from_argument(made) == names.document_name("default", made)
        assert made.endswith(f"~~{digest[:12]}")
        assert len(made) <= names.ID_CHARS
