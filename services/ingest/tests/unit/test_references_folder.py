"""A reference reaches files below the folder, whatever it says and wherever links point."""

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from chassis.base.errors import InvalidInputError, NotFoundError, ServiceError, UnavailableError
from ingest.references.folder import PIECE_BYTES, DropsFolder, _translate_errors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "drops"
    (root / "in").mkdir(parents=True)
    (root / "in" / "a b%c.txt").write_bytes(b"dropped")
    (tmp_path / "secret").write_bytes(b"not for you")
    return root


async def content(root: Path, uri: str) -> bytes:
    return b"".join([piece async for piece in DropsFolder(root).read(uri)])


async def find_refusal(root: Path, uri: str) -> ServiceError:
    with pytest.raises(ServiceError) as refusal:
        await content(root, uri)
    return refusal.value


async def test_a_file_below_the_folder_is_read(folder: Path):
    assert await content(folder, (folder / "in" / "a b%c.txt").as_uri()) == b"dropped"
    assert await content(folder, f"file://localhost{folder}/in/a%20b%25c.txt") == b"dropped"


async def test_a_large_file_comes_in_pieces(folder: Path):
    large = os.urandom(PIECE_BYTES * 2 + 1)
    (folder / "large").write_bytes(large)
    pieces = [p async for p in DropsFolder(folder).read(f"file://{folder}/large")]
    assert b"".join(pieces) == large
    assert len(pieces) == 3


async def test_the_folder_may_be_named_through_a_link(folder: Path, tmp_path: Path):
    alias = tmp_path / "alias"
    alias.symlink_to(folder)
    for root in (alias, folder):
        assert await content(alias, f"file://{root}/in/a%20b%25c.txt") == b"dropped"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "{root}/in/x",
        "file:in/x",
        "file://elsewhere{root}/in/x",
        "http://{root}/in/x",
        "file://{root}",
        "file://{root}/../secret",
        "file://{root}/in/../../secret",
        "file://{root}/in/%2e%2e/%2e%2e/secret",
        "file://{root}/in/x?y",
        "file://{root}/in/x#y",
        "file://{root}/in/x%00",
        "file:///etc/passwd",
        "file://[::1/x",
    ],
)
async def test_an_address_outside_is_refused(folder: Path, uri: str):
    error = await find_refusal(folder, uri.format(root=folder))
    assert isinstance(error, InvalidInputError)
    assert error.reason == "REFERENCE_FORBIDDEN"


async def test_no_link_below_the_folder_is_followed(folder: Path, tmp_path: Path):
    (folder / "file").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    assert (await find_refusal(folder, f"file://{folder}/file")).reason == "REFERENCE_FORBIDDEN"
    through = await find_refusal(folder, f"file://{folder}/up/secret")
    assert through.reason in {"REFERENCE_FORBIDDEN", "REFERENCE_MISSING"}


async def test_only_regular_files_are_read(folder: Path):
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
    for name in ("pipe", "socket", "in"):
        assert (
            await find_refusal(folder, f"file://{folder}/{name}")
        ).reason == "REFERENCE_FORBIDDEN"


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_nothing_that_an_entry_does_is_waited_for(number: int):
    with pytest.raises(ServiceError) as refusal, _translate_errors():
        raise OSError(number, os.strerror(number))
    ours = number in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
    assert isinstance(refusal.value, UnavailableError) == ours


async def test_a_missing_file_is_said_to_be_missing(folder: Path):
    for name in ("none", "none/at/all", "in/a b%25c.txt/x", "x" * 300):
        error = await find_refusal(folder, f"file://{folder}/{name}")
        assert isinstance(error, NotFoundError)
        assert error.reason == "REFERENCE_MISSING"


async def test_a_folder_that_is_not_mounted_is_waited_for(folder: Path):
    away = folder.with_name("not-mounted")
    assert isinstance(await find_refusal(away, f"file://{away}/in/x"), UnavailableError)


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


async def test_no_descriptor_is_left_open(folder: Path):
    before = descriptors()
    for name in ("in/a b%25c.txt", "none", "in"):
        stream = DropsFolder(folder).read(f"file://{folder}/{name}")
        with suppress(ServiceError):
            await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
    assert len(descriptors()) == len(before)
