"""What the local object store guarantees beyond `test_objects.py`: durable files, and no other."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chassis.base.errors import (
    InvalidInputError,
    UnavailableError,
)
from ingest.objects.local import LocalObjects, _Partial

KEY = "acme/3f2a/1"
CONTENT = b"raw bytes" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
MOST = 1024 * 1024


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path)


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


async def test_cancelled_put_leaves_nothing(objects, tmp_path):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    for delay_s in (0, 0.001, 0.01, 0.05):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(delay_s):
                await objects.put(KEY, endless(), max_bytes=1 << 40)
    assert files(tmp_path) == []


async def test_a_thread_that_begins_after_the_clean_up_writes_nothing(tmp_path):
    """Cancelled between being taken up by a thread and taking the lock."""
    late = _Partial(tmp_path / KEY, MOST)
    late.discard()
    for call in (lambda: late.write(CONTENT), late.commit):
        with pytest.raises(OSError, match="given up"):
            call()
    assert files(tmp_path) == []


async def test_the_last_version_takes_its_folder_along(objects, tmp_path):
    keys = ["acme/3f2a/1", "acme/3f2a/2", "acme/77/1"]
    for key in keys:
        await objects.put(key, CONTENT, max_bytes=MOST)
    await objects.delete(keys[0])
    assert files(tmp_path) == keys[1:]
    await objects.delete(keys[1])
    assert [path.name for path in (tmp_path / "acme").iterdir()] == ["77"]


async def test_a_folder_left_by_a_delete_that_was_cut_short_goes_with_its_repeat(objects, tmp_path):
    (tmp_path / "acme/3f2a").mkdir(parents=True)
    await objects.delete(KEY)
    assert list((tmp_path / "acme").iterdir()) == []


@pytest.mark.parametrize("times", [1, 3])
async def test_a_folder_a_neighbour_took_away_is_made_again(
    objects, tmp_path, monkeypatch, times: int
):
    make, taken = tempfile.mkstemp, []

    def late(**where: Any) -> tuple[int, str]:
        if len(taken) < times:
            taken.append(where["dir"])
            Path(where["dir"]).rmdir()
        return make(**where)

    monkeypatch.setattr(tempfile, "mkstemp", late)
    await objects.put(KEY, CONTENT, max_bytes=MOST)
    assert await objects.read(KEY, sha256=DIGEST) == CONTENT
    assert taken == [tmp_path / "acme/3f2a"] * times


async def test_puts_and_deletes_of_one_document_do_not_disturb_each_other(objects, tmp_path):
    async def come_and_go(number: int) -> None:
        for turn in range(20):
            key = f"acme/3f2a/{number}-{turn}"
            await objects.put(key, b"x", max_bytes=MOST)
            await objects.delete(key)

    await asyncio.gather(*(come_and_go(number) for number in range(8)))
    assert list((tmp_path / "acme").iterdir()) == []


async def test_an_object_is_a_file_that_only_its_owner_reads(objects, tmp_path):
    await objects.put(KEY, CONTENT, max_bytes=MOST)
    assert files(tmp_path) == [KEY]
    assert (tmp_path / KEY).stat().st_mode & 0o777 == 0o600


async def test_too_much_leaves_no_folder(objects, tmp_path):
    with pytest.raises(InvalidInputError):
        await objects.put(KEY, CONTENT, max_bytes=len(CONTENT) - 1)
    assert not (tmp_path / KEY).parent.exists()


async def test_volume_that_is_not_mounted_is_not_created(tmp_path):
    with pytest.raises(UnavailableError):
        await LocalObjects(tmp_path / "absent").put(KEY, CONTENT, max_bytes=MOST)
    assert not (tmp_path / "absent").exists()


async def test_a_file_left_by_a_crash_is_not_listed(objects, tmp_path):
    keys = ["acme/3f2a/1", "acme/3f2a/10", "acme/3f2ab/1", "acme2/3f2a/1"]
    for key in keys:
        await objects.put(key, CONTENT, max_bytes=MOST)
    (tmp_path / "acme/3f2a/.1.x.partial").write_bytes(b"left by a crash")
    assert await objects.list() == keys
    assert await objects.list("acme/3f2a") == keys[:2]
    assert await objects.list("acme") == keys[:3]
    assert await objects.list("nobody") == []


async def test_unfinished_writes_are_swept(objects, tmp_path):
    await objects.put(KEY, CONTENT, max_bytes=MOST)
    (tmp_path / "acme/3f2a/.1.x.partial").write_bytes(b"left by a crash")
    assert await objects.delete_unfinished() == 1
    assert await objects.delete_unfinished() == 0
    assert files(tmp_path) == [KEY]


# A tmpfs of one megabyte where the kernel lets us mount one, else a bound on the size of a file.
FULL = """
import asyncio, ctypes, json, os, resource, sys
from pathlib import Path
from chassis.base.errors import OverloadedError
from ingest.objects.local import LocalObjects
NEWUSER_AND_NEWNS = 0x10000000 | 0x00020000
root, libc, uid, gid = sys.argv[1], ctypes.CDLL(None), os.getuid(), os.getgid()
mounted = False
if libc.unshare(NEWUSER_AND_NEWNS) == 0:
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    mounted = libc.mount(b"none", root.encode(), b"tmpfs", 0, b"size=1m") == 0
if not mounted:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
async def main():
    objects = LocalObjects(Path(root))
    small = await objects.put("acme/doc/1", b"x" * 1000, max_bytes=1 << 30)
    said = ""
    try:
        await objects.put("acme/doc/2", b"x" * (2 << 20), max_bytes=1 << 30)
    except OverloadedError as error:
        said = error.reason
    again = await objects.put("acme/doc/3", b"x" * 1000, max_bytes=1 << 30)
    print(json.dumps([mounted, said, list(await objects.list()), small == again]))
asyncio.run(main())
"""


def test_full_disk_is_overload_and_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, check=True, timeout=30)
    _, said, keys, writable_again = json.loads(run.stdout)
    assert said == "STORAGE_FULL"
    assert keys == ["acme/doc/1", "acme/doc/3"]
    assert writable_again


async def test_file_is_synced_before_it_gets_its_name_and_the_folders_after(
    objects, tmp_path, monkeypatch
):
    calls = []
    sync, rename = os.fsync, Path.replace

    def watched_sync(descriptor: int) -> None:
        calls.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    def watched_rename(path: Path, target: Path) -> Path:
        calls.append(target)
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "replace", watched_rename)
    await objects.put(KEY, CONTENT, max_bytes=MOST)
    partial, *rest = calls
    assert partial.suffix == ".partial"
    assert partial.parent == tmp_path / "acme/3f2a"
    folders = [tmp_path / "acme/3f2a", tmp_path / "acme", tmp_path]
    assert rest == [tmp_path / KEY, *folders]
    await objects.delete(KEY)
    assert calls[-2:] == folders[:2]
