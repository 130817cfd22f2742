"""Archives: each file in them is a document; what is made to do harm, is not unpacked."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from aquifer_cli import archives
from aquifer_cli.errors import CommandError
from aquifer_cli.passwords import read_password
from aquifer_cli.sources import find_files

MEMBERS = {"a.txt": b"first", "deep/b.md": b"# second", "deep/er/c.csv": b"x;y\n1;2\n"}


def pack_zip(file: Path, members: dict[str, bytes], **settings: object) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, **settings) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return file


def pack_tar(file: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(file, mode) as packed:
        for name, content in members.items():
            add(packed, name, content)
    return file


def add(packed: tarfile.TarFile, name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.size, member.type = len(content), kind
    member.linkname = "/etc/passwd"
    packed.addfile(member, io.BytesIO(content))


def read(file: Path, tmp_path: Path) -> dict[str, bytes]:
    """Documents of an upload, and their bytes."""
    space = tmp_path / "space"
    space.mkdir()
    items = find_files([file], "c", space=space)
    found = {}
    for item in items:
        with item.open() as stream:
            found[item.header.document.rpartition("/")[2]] = stream.read()
    assert set(tmp_path.iterdir()) == {space, file}
    return found


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("m.zip", ""),
        ("m.tar", "w"),
        ("m.tar.gz", "w:gz"),
        ("m.tgz", "w:gz"),
        ("m.tar.bz2", "w:bz2"),
        ("m.TAR.XZ", "w:xz"),
    ],
)
def test_each_file_in_an_archive_is_a_document_named_after_both(tmp_path, name, mode):
    file = tmp_path / name
    pack_tar(file, MEMBERS, mode) if mode else pack_zip(file, MEMBERS)
    assert read(file, tmp_path) == {
        f"{name}~a.txt": b"first",
        f"{name}~deep~b.md": b"# second",
        f"{name}~deep~er~c.csv": b"x;y\n1;2\n",
    }


def test_the_user_sees_where_a_file_is(tmp_path):
    (tmp_path / "docs").mkdir()
    pack_zip(tmp_path / "docs" / "m.zip", MEMBERS)
    space = tmp_path / "space"
    space.mkdir()
    items = find_files([tmp_path / "docs"], "c", space=space)
    assert [item.path for item in items] == [f"{tmp_path}/docs/m.zip/{name}" for name in MEMBERS]
    assert [item.header.file_name for item in items] == ["a.txt", "b.md", "c.csv"]


def test_archives_in_archives_are_unpacked_to_a_bound(tmp_path):
    inner = pack_zip(tmp_path / "inner.zip", {"note.txt": b"inside"}).read_bytes()
    middle = pack_tar(tmp_path / "middle.tgz", {"inner.zip": inner}, "w:gz").read_bytes()
    outer = pack_zip(tmp_path / "outer.zip", {"x/middle.tgz": middle})
    for other in ("inner.zip", "middle.tgz"):
        (tmp_path / other).unlink()
    assert read(outer, tmp_path) == {"outer.zip~x~middle.tgz~inner.zip~note.txt": b"inside"}
    deeper = pack_zip(tmp_path / "deeper.zip", {"outer.zip": outer.read_bytes()})
    with pytest.raises(OSError, match="more than 3 deep"):
        archives.unpack(deeper, tmp_path / "space")


@pytest.mark.parametrize(
    "name",
    ["../../evil.txt", "/evil.txt", "a/../../../evil.txt", "..\\..\\evil.txt", "./../evil.txt"],
)
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    file = pack_zip(tmp_path / "m.zip", {name: b"x"})
    (document,) = read(file, tmp_path)
    assert document.startswith("m.zip~")
    assert document.endswith("evil.txt")
    assert ".." not in document


def test_links_devices_and_hidden_files_are_left_out(tmp_path):
    file = tmp_path / "m.tar"
    with tarfile.open(file, "w") as packed:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            add(packed, f"kind-{kind.decode()}", kind=kind)
        add(packed, ".hidden", b"x")
        add(packed, "__MACOSX/a.txt", b"x")
        add(packed, "real.txt", b"x")
    assert read(file, tmp_path) == {"m.tar~real.txt": b"x"}


def fail_of(file: Path, tmp_path: Path) -> str:
    """Why the one item of an upload cannot be opened."""
    space = tmp_path / "space"
    space.mkdir()
    (item,) = find_files([file], "c", space=space)
    assert item.header.document == f"collections/c/documents/{file.name}"
    with pytest.raises(OSError, match="archive") as failed:
        item.open()
    return str(failed.value)


def test_a_bomb_is_not_unpacked(tmp_path):
    file = pack_zip(tmp_path / "bomb.zip", {f"{n}.txt": bytes(8 << 20) for n in range(10)})
    assert file.stat().st_size < 100_000
    assert "200 times its size" in fail_of(file, tmp_path)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.txt"))
    assert written <= archives.RATIO_FROM_BYTES


def test_a_size_that_lies_does_not_help(tmp_path):
    file = pack_zip(tmp_path / "m.zip", {"a.txt": bytes(1 << 20)})
    data = bytearray(file.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (1000).to_bytes(4, "little")
    file.write_bytes(data)
    assert "damaged" in fail_of(file, tmp_path)


def test_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MEMBERS_MAX", 20)
    file = pack_tar(tmp_path / "m.tar", {f"{n}.txt": b"" for n in range(21)})
    assert "more than 20 files" in fail_of(file, tmp_path)


def test_an_archive_is_a_folder_while_it_is_open(tmp_path):
    file = pack_zip(tmp_path / "m.zip", MEMBERS)
    with archives.open_folder(file) as folder:
        assert (folder / "deep" / "b.md").read_bytes() == b"# second"
    assert not folder.exists()
    with archives.open_folder(tmp_path) as folder:
        assert folder == tmp_path


def test_a_damaged_archive_is_no_folder(tmp_path):
    file = pack_tar(tmp_path / "m.tgz", {"a.bin": os.urandom(100_000)}, "w:gz")
    file.write_bytes(file.read_bytes()[:50_000])
    with pytest.raises(CommandError) as refused, archives.open_folder(file):
        pass
    assert refused.value.reason == "ARCHIVE_UNREADABLE"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_damaged_archive_is_one_document_that_fails(tmp_path, share):
    file = pack_tar(tmp_path / "m.tar.gz", {"a.bin": os.urandom(100_000)}, "w:gz")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert "damaged" in fail_of(file, tmp_path)


def test_an_encrypted_archive_says_so(tmp_path):
    file = pack_zip(tmp_path / "m.zip", {"a.txt": b"x"})
    data = bytearray(file.read_bytes())
    for sign, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(sign) + offset] |= 1
    file.write_bytes(data)
    assert "needs a password" in fail_of(file, tmp_path)


def test_without_unpacking_and_by_another_name_it_is_a_file(tmp_path):
    file = pack_zip(tmp_path / "m.zip", MEMBERS)
    (item,) = find_files([file], "c")
    assert item.header.document.endswith("/m.zip")
    report = file.rename(tmp_path / "report.docx")
    assert list(read(report, tmp_path)) == ["report.docx"]


def test_a_file_that_is_only_called_so_is_sent_as_it_is(tmp_path):
    file = tmp_path / "notes.zip"
    file.write_bytes(b"plain text")
    assert read(file, tmp_path) == {"notes.zip": b"plain text"}


@pytest.mark.parametrize(
    ("content", "password"),
    [("secret\n", "secret"), ("\u00fcber x\r\nnext\n", "\u00fcber x"), (" a ", " a ")],
)
def test_a_password_is_the_first_line_of_its_file(tmp_path, content, password):
    file = tmp_path / "secret.txt"
    file.write_bytes(content.encode())
    assert read_password(file) == password
    report = tmp_path / "report.pdf"
    report.write_bytes(b"x")
    (item,) = find_files([report], "c", password=password)
    assert item.header.password == password
    assert password not in repr(item.path)


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 129, b"\xff\xfe"])
def test_a_file_without_a_password_is_refused(tmp_path, content):
    file = tmp_path / "secret.txt"
    file.write_bytes(content)
    with pytest.raises(CommandError) as refused:
        read_password(file)
    assert refused.value.reason in ("PASSWORD_FILE", "FILE_UNREADABLE")


def test_a_missing_file_of_a_password_is_named(tmp_path):
    with pytest.raises(CommandError) as refused:
        read_password(tmp_path / "no.txt")
    assert refused.value.reason == "FILE_UNREADABLE"
