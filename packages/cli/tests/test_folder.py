"""A folder as it is kept in step: which files are complete, and which documents they are."""

import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from aquifer_cli.errors import CommandError
from aquifer_cli.folder import SETTLE_S, SOURCE, check_source, look
from aquifer_cli.sources import find_files

NOBODY = 65_534


def see(folder):
    return look(folder, "c", "host:/folder")


def ids(names):
    return {name.rpartition("/")[2] for name in names}


def write(path, content="text", age_s=60.0):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(content)
    age(path, age_s)


def age(path, age_s):
    then = time.time() - age_s
    os.utime(path, (then, then))


@contextmanager
def nobody_special():
    """Without the right to read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def test_documents_are_named_as_an_upload_of_the_folder_names_them(tmp_path):
    for name in ("a.md", "sub/b c.txt", ".hidden", ".git/config", "empty"):
        write(tmp_path / name, "" if name == "empty" else name)
    (tmp_path / os.fsdecode(b"bad\xff.txt")).write_bytes(b"content")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "linked").symlink_to(tmp_path / "a.md")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    found = see(tmp_path)
    uploaded = {item.header.document: item for item in find_files([tmp_path], "c")}
    assert found.items.keys() == uploaded.keys()
    assert len(uploaded) == 6
    assert found.whole
    for document, item in found.items.items():
        assert item.path == uploaded[document].path
        assert item.header.file_name == uploaded[document].header.file_name
    sent = [item for item in found.items.values() if "broken" not in item.path]
    assert [dict(item.header.metadata) for item in sent] == [{SOURCE: "host:/folder"}] * 5


def test_a_file_is_complete_when_it_has_not_changed_for_a_while(tmp_path):
    write(tmp_path / "old")
    write(tmp_path / "fresh", age_s=0)
    write(tmp_path / "future", age_s=-3_600)
    first = see(tmp_path)
    assert ids(first.list_unsettled()) == {"fresh", "future"}
    # What is the same after that while is complete, whatever the clock of its disk says.
    (tmp_path / "fresh").write_text("more text")
    second = see(tmp_path)
    assert ids(second.list_unsettled(first)) == {"fresh"}
    write(tmp_path / "appeared", age_s=0)
    assert ids(see(tmp_path).list_unsettled(second)) == {"appeared"}
    assert SETTLE_S < 60


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("text and more"),
        lambda path: path.write_text("te"),
        lambda path: path.write_text("TEXT"),
        lambda path: os.utime(path, (1, 1)),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_not_read_to_its_end(tmp_path, change):
    path = tmp_path / "a"
    write(path, "text")
    [item] = see(tmp_path).items.values()
    with item.open() as stream:
        assert stream.read() == b"text"
    for size in (-1, 2):
        [item] = see(tmp_path).items.values()
        with item.open() as stream:
            assert stream.read(1)
            time.sleep(0.02)
            change(path)
            with pytest.raises(OSError, match="still being written"):
                while stream.read(size):
                    pass
        write(path, "text")


def test_a_file_that_is_replaced_before_it_is_opened_is_not_read(tmp_path):
    write(tmp_path / "a", "text")
    [item] = see(tmp_path).items.values()
    write(tmp_path / "b", "text")
    (tmp_path / "b").rename(tmp_path / "a")
    with item.open() as stream, pytest.raises(OSError, match="still being written"):
        stream.read()


def test_reading_alone_changes_nothing(tmp_path):
    write(tmp_path / "a", "x" * 100_000)
    first = see(tmp_path)
    for item in (*first.items.values(), *first.items.values()):
        with item.open() as stream:
            assert b"".join(iter(lambda: stream.read(4_096), b"")) == b"x" * 100_000
    assert see(tmp_path).stamps == first.stamps


def test_a_folder_that_cannot_be_read_makes_the_look_incomplete():
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        write(top / "a.txt")
        write(top / "closed/b.txt")
        assert see(top).whole
        (top / "closed").chmod(0)
        with nobody_special():
            found = see(top)
        (top / "closed").chmod(0o755)
    assert not found.whole
    assert "a.txt" in ids(found.items)


def test_a_file_that_cannot_be_read_is_still_there(tmp_path):
    write(tmp_path / "a.txt")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    found = see(tmp_path)
    assert ids(found.items) == {"a.txt", "broken"}
    assert found.whole
    with pytest.raises(FileNotFoundError):
        found.items["collections/c/documents/broken"].open()


@pytest.mark.parametrize(
    ("path", "reason"), [("file", "NOT_A_FOLDER"), ("nothing", "PATH_UNKNOWN"), ("sub", "NO_FILES")]
)
def test_what_is_no_folder_with_files_is_refused(tmp_path, path, reason):
    write(tmp_path / "file")
    (tmp_path / "sub").mkdir()
    with pytest.raises(CommandError) as refused:
        see(tmp_path / path)
    assert (refused.value.reason, refused.value.exit_code) == (reason, 2)


@pytest.mark.parametrize("source", ["", "x" * 513, "a\x00b"])
def test_a_name_that_metadata_cannot_hold_is_refused(source):
    with pytest.raises(CommandError) as refused:
        check_source(source)
    assert refused.value.reason == "SOURCE_NAME"
    assert check_source("x" * 512)
