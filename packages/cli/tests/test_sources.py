"""What is found to send: files, folders of odd content, lines of JSONL."""

import json
import os
import unicodedata

import pytest

from aquifer.structs import to_json
from aquifer_cli.errors import CommandError
from aquifer_cli.sources import find_files, read_documents


def ids(items):
    return [item.header.document.rsplit("/", 1)[-1] for item in items]


def refused(work):
    with pytest.raises(CommandError) as refusal:
        work()
    assert refusal.value.exit_code == 2
    return refusal.value


def write_lines(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_a_folder_is_taken_in_one_order_without_what_is_hidden(tmp_path):
    for name in ("b.txt", "a.txt", ".hidden", "sub/c.txt", ".git/config", "a.d/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "loop").symlink_to(tmp_path)
    items = find_files([tmp_path], "default")
    assert ids(items) == ["a.txt", "b.txt", "a.d~x", "sub~c.txt"]
    assert all(to_json(item.header.metadata) == {} for item in items)
    dated = find_files([tmp_path], "default", {"year": 2020})
    assert [to_json(item.header.metadata) for item in dated] == [{"year": 2020}] * 4
    with items[3].open() as stream:
        assert stream.read() == b"sub/c.txt"


def test_files_that_would_be_one_document_are_refused_before_anything_is_sent(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "README.md").write_text(folder)
    paths = [tmp_path / "one" / "README.md", tmp_path / "two" / "README.md"]
    refusal = refused(lambda: find_files(paths, "default"))
    assert refusal.reason == "DOCUMENT_TWICE"
    assert all(str(path) in refusal.detail for path in paths)
    assert len(find_files([tmp_path], "default")) == 2


def test_names_that_differ_only_in_signs_are_different_documents(tmp_path):
    names = ["a b.txt", "a-b.txt", "a(b).txt", "水.txt", "火.txt", "x~y"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "y").write_text("below")
    found = ids(find_files([tmp_path], "default"))
    assert len(set(found)) == len(names) + 1


def test_two_spellings_of_one_name_are_one_document(tmp_path):
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "Größe.txt")).write_text(form)
    assert refused(lambda: find_files([tmp_path], "default")).reason == "DOCUMENT_TWICE"


def test_the_same_file_named_twice_is_sent_once(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    assert ids(find_files([tmp_path, tmp_path / "a.txt", tmp_path], "default")) == ["a.txt"]


def test_a_name_that_is_no_utf8_can_be_sent_and_shown(tmp_path):
    (tmp_path / os.fsdecode(b"bad\xff.txt")).write_bytes(b"content")
    [item] = find_files([tmp_path], "default")
    assert "�" in item.path
    item.path.encode()
    with item.open() as stream:
        assert stream.read() == b"content"


def test_what_can_not_be_read_becomes_an_item_that_says_so(tmp_path):
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nothing")
    [item] = find_files([tmp_path], "default")
    with pytest.raises(FileNotFoundError):
        item.open()


def test_a_folder_without_files_and_a_path_without_anything_are_refused(tmp_path):
    assert refused(lambda: find_files([tmp_path], "default")).reason == "NO_FILES"
    assert refused(lambda: find_files([tmp_path / "no"], "default")).reason == "PATH_UNKNOWN"


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused(lambda: find_files([tmp_path / "pipe"], "default")).reason == "NOT_A_FILE"
    (tmp_path / "a.txt").write_text("a")
    assert ids(find_files([tmp_path], "default")) == ["a.txt"]


def test_a_collection_that_can_not_be_is_refused_at_once(tmp_path):
    assert refused(lambda: find_files([tmp_path], "my stuff")).reason == "COLLECTION_NAME"


METADATA = {"year": 1987, "public": True, "tags": ["a", 0.5], "at": "2024-05-01T00:00:00Z"}


def test_lines_become_documents(tmp_path):
    file = write_lines(
        tmp_path / "corpus.jsonl",
        {"_id": "1", "title": "Honey", "text": "Bees make honey.", "metadata": METADATA},
        "",
        '{"_id": 2, "text": "A line separator \u2028 and \x85 end no line."}',
        "   ",
    )
    first, second = read_documents(file, "zoo")
    assert first.path == f"{file}:1"
    assert first.header.document == "collections/zoo/documents/1"
    assert to_json(first.header.metadata) == METADATA
    assert first.open().read() == b"Honey\n\nBees make honey."
    assert second.path == f"{file}:3"
    assert "\u2028" in second.open().read().decode()


def test_all_lines_get_the_given_labels(tmp_path):
    rows = [{"_id": name, "text": name} for name in "ab"]
    items = read_documents(write_lines(tmp_path / "pay.jsonl", *rows), "default", ("hr", "law"))
    assert [list(item.header.labels) for item in items] == [["hr", "law"]] * 2


def test_of_lines_with_one_id_the_last_counts_and_the_others_are_told(tmp_path):
    rows = [{"_id": "a", "text": "old"}, {"_id": "b", "text": "b"}, {"_id": "a", "text": "new"}]
    file = write_lines(tmp_path / "twice.jsonl", *rows)
    items = read_documents(file, "default")
    assert [item.skipped for item in items] == ["ID_REPEATED", "", ""]
    assert f"{file}:3" in items[0].notes[0]


def test_metadata_that_is_too_long_is_cut_and_told(tmp_path):
    row = {"_id": "a", "text": "x", "metadata": {"source": "s" * 600}}
    [item] = read_documents(write_lines(tmp_path / "long.jsonl", row), "default")
    assert len(item.header.metadata["source"]) == 512
    assert "shortened from 600 to 512" in item.notes[0]


def test_an_id_that_has_to_be_rewritten_is_told(tmp_path):
    [item] = read_documents(
        write_lines(tmp_path / "odd.jsonl", {"_id": "a/b", "text": "x"}), "default"
    )
    assert item.header.document.startswith("collections/default/documents/a~b~~")
    assert "'a/b'" in item.notes[0]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "3",
        '"text"',
        '{"text": "no id"}',
        '{"_id": "a"}',
        '{"_id": null, "text": "x"}',
        '{"_id": "a", "text": ["x"]}',
        '{"_id": "a", "text": true}',
        '{"_id": "a", "text": "x", "metadata": [1]}',
        '{"_id": "a", "text": "x", "metadata": {"k": null}}',
        '{"_id": "a", "text": "x", "metadata": {"k": {"a": 1}}}',
        '{"_id": "a", "text": "x", "metadata": {"k": [[1]]}}',
        '{"_id": "a", "text": "x", "metadata": {"k": NaN}}',
        '{"_id": "a", "text": "x", "metadata": {"k": 9007199254740993}}',
        '{"_id": "a", "text": "half a character \\ud800"}',
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_document_is_named(tmp_path, line):
    file = write_lines(tmp_path / "bad.jsonl", {"_id": "good", "text": "x"}, line)
    refusal = refused(lambda: read_documents(file, "default"))
    assert refusal.reason == "LINE_UNREADABLE"
    assert refusal.detail.startswith(f"{file}:2: ")


def test_every_line_that_is_no_document_is_named_up_to_a_bound(tmp_path):
    good = {"_id": "good", "text": "x"}
    few = refused(
        lambda: read_documents(write_lines(tmp_path / "few", "{", good, {"_id": "a"}), "default")
    )
    assert [line.split(": ")[0] for line in few.detail.splitlines()] == [
        f"{tmp_path}/few:1",
        f"{tmp_path}/few:3",
    ]
    many = refused(lambda: read_documents(write_lines(tmp_path / "many", *["{"] * 1012), "default"))
    assert len(many.detail.splitlines()) == 11
    assert many.detail.endswith("\nand 1,002 more lines")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"%PDF-1.7\n\xe2\xe3"])
def test_bytes_that_are_no_text_are_refused(tmp_path, content):
    (tmp_path / "bytes.jsonl").write_bytes(content)
    assert (
        refused(lambda: read_documents(tmp_path / "bytes.jsonl", "default")).reason
        == "LINE_UNREADABLE"
    )


def test_a_file_that_is_not_there_or_empty_is_refused(tmp_path):
    assert refused(lambda: read_documents(tmp_path / "no", "default")).reason == "FILE_UNREADABLE"
    assert refused(lambda: read_documents(tmp_path, "default")).reason == "FILE_UNREADABLE"
    (tmp_path / "empty").write_text("\n\n")
    assert refused(lambda: read_documents(tmp_path / "empty", "default")).reason == "NO_FILES"
