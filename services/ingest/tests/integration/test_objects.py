"""What every object store guarantees: the local folder, and a bucket of a real S3 server."""

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest

from chassis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from chassis.base.postgres import Database
from ingest.objects.bucket import PART_BYTES, BucketObjects
from ingest.objects.local import LocalObjects
from ingest.objects.opening import open_objects
from services.ingest.tests.conftest import open_rig
from services.ingest.tests.s3_server import make_bucket
from stack.ports import free_ports

KEY = "acme/3f2a/1"
CONTENT = b"raw bytes" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
MOST = 64 << 20


@dataclass
class Store:
    """A store, how its bytes are changed behind its back, and how it goes away."""

    objects: LocalObjects | BucketObjects
    overwrite: Callable[[str, bytes], object]
    away: LocalObjects | BucketObjects


async def local_store(folder: Path) -> Store:
    return Store(
        await open_objects(str(folder / "objects")),
        lambda key, content: (folder / "objects" / key).write_bytes(content),
        LocalObjects(folder / "absent"),
    )


async def bucket_store(
    variables: dict[str, str], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> Store:
    bucket = f"objects-{uuid.uuid4().hex}"
    make_bucket(variables, bucket)
    objects = await open_objects(f"s3://{bucket}{prefix}")
    assert isinstance(objects, BucketObjects)
    [nobody] = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody}")
    away = await open_objects(f"s3://{bucket}")
    return Store(
        objects, lambda key, content: obstore.put(objects._bucket.store, key, content), away
    )


@pytest.fixture(params=["folder", "bucket", "bucket below a prefix"])
async def store(request, tmp_path, monkeypatch) -> Store:
    if request.param == "folder":
        return await local_store(tmp_path)
    prefix = "/a/prefix/" if "prefix" in request.param else ""
    return await bucket_store(request.getfixturevalue("s3"), prefix, monkeypatch)


@pytest.fixture
def objects(store: Store) -> LocalObjects | BucketObjects:
    return store.objects


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


@pytest.mark.parametrize("pieces", [[CONTENT], [CONTENT[:1], CONTENT[1:5000], b"", CONTENT[5000:]]])
async def test_what_was_put_is_read_back(objects, pieces):
    content = pieces[0] if len(pieces) == 1 else stream(*pieces)
    stored = await objects.put(KEY, content, max_bytes=MOST)
    assert (stored.size_bytes, stored.sha256) == (len(CONTENT), DIGEST)
    assert await objects.read(KEY, sha256=DIGEST) == CONTENT
    assert await objects.list() == [KEY]


async def test_a_large_object_is_read_back(objects):
    content = os.urandom(2 * PART_BYTES + 17)
    pieces = [content[start : start + 700_000] for start in range(0, len(content), 700_000)]
    stored = await objects.put(KEY, stream(*pieces), max_bytes=MOST)
    assert stored.size_bytes == len(content)
    assert await objects.read(KEY, sha256=stored.sha256) == content


async def test_empty_object_is_an_object(objects):
    stored = await objects.put(KEY, stream(), max_bytes=MOST)
    assert stored.size_bytes == 0
    assert await objects.read(KEY, sha256=stored.sha256) == b""


async def test_repeated_put_overwrites_whole(objects):
    await objects.put(KEY, b"a longer first attempt", max_bytes=MOST)
    second = await objects.put(KEY, b"second", max_bytes=MOST)
    assert await objects.read(KEY, sha256=second.sha256) == b"second"


async def test_concurrent_puts_leave_one_whole_object(objects):
    contents = [bytes([letter]) * 300_000 for letter in b"abcdefgh"]
    puts = [objects.put(KEY, stream(one[:1], one[1:]), max_bytes=MOST) for one in contents]
    digests = {one.sha256 for one in await asyncio.gather(*puts)}
    found = []
    for digest in digests:
        try:
            found.append(await objects.read(KEY, sha256=digest))
        except DataLossError:
            continue
    assert len(found) == 1
    assert await objects.list() == [KEY]


@pytest.mark.parametrize("pieces", [[CONTENT], [CONTENT[:50], CONTENT[50:]]])
async def test_too_much_is_refused_and_leaves_nothing(objects, pieces):
    content = pieces[0] if len(pieces) == 1 else stream(*pieces)
    with pytest.raises(InvalidInputError) as refusal:
        await objects.put(KEY, content, max_bytes=len(CONTENT) - 1)
    assert refusal.value.reason == "DOCUMENT_TOO_LARGE"
    assert await objects.list() == []


@pytest.mark.parametrize("before_bytes", [11, 2 * PART_BYTES])
async def test_put_that_is_cut_short_leaves_the_old_object(objects, before_bytes):
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * before_bytes
        raise ConnectionResetError

    await objects.put(KEY, CONTENT, max_bytes=MOST)
    with pytest.raises(ConnectionResetError):
        await objects.put(KEY, broken(), max_bytes=MOST)
    assert await objects.read(KEY, sha256=DIGEST) == CONTENT
    assert await objects.list() == [KEY]


async def test_cancelled_put_leaves_nothing(objects):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)
            await asyncio.sleep(0)

    for delay_s in (0, 0.001, 0.01, 0.05):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(delay_s):
                await objects.put(KEY, endless(), max_bytes=1 << 40)
    assert await objects.list() == []


@pytest.mark.parametrize(
    "damage", [lambda old: old[:-1], lambda old: b"R" + old[1:], lambda _: b""]
)
async def test_damaged_object_is_never_returned(store, objects, damage):
    await objects.put(KEY, CONTENT, max_bytes=MOST)
    store.overwrite(KEY, damage(CONTENT))
    with pytest.raises(DataLossError) as loss:
        await objects.read(KEY, sha256=DIGEST)
    assert loss.value.reason == "OBJECT_CORRUPT"


async def test_missing_object_is_named(objects):
    with pytest.raises(NotFoundError) as missing:
        await objects.read(KEY, sha256=DIGEST)
    assert (missing.value.reason, missing.value.facts["key"]) == ("OBJECT_MISSING", KEY)


async def test_deleted_object_is_gone_and_deleting_again_is_fine(objects):
    await objects.put(KEY, CONTENT, max_bytes=MOST)
    for _ in range(2):
        await objects.delete(KEY)
        assert await objects.list() == []


async def test_a_prefix_is_listed_alone(objects):
    keys = ["acme/3f2a/1", "acme/3f2a/10", "acme/3f2ab/1", "acme2/3f2a/1"]
    for key in keys:
        await objects.put(key, CONTENT, max_bytes=MOST)
    assert await objects.list() == keys
    assert await objects.list("acme/3f2a") == keys[:2]
    assert await objects.list("acme") == keys[:3]
    assert await objects.list("nobody") == []


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "a", "a/b", "a/b/c/d", "a//c", "/a/b", "a/b/"),
        *("../b/c", "a/../c", "a/b/..", "./b/c", "a/.hidden/c", "a/b/.x.partial"),
        *("a/b/c\x00", "a/b/c\n", "a/b c/d", "a\\b/c/d", "ä/b/c", f"a/b/{'x' * 201}"),
    ],
)
async def test_key_outside_the_grammar_is_refused_everywhere(objects, key):
    calls = [
        lambda: objects.put(key, b"x", max_bytes=MOST),
        lambda: objects.put(key, stream(b"x"), max_bytes=MOST),
        lambda: objects.read(key, sha256=DIGEST),
        lambda: objects.delete(key),
    ]
    if key not in ("", "a", "a/b"):
        calls.append(lambda: objects.list(key))
    for call in calls:
        with pytest.raises(InvalidInputError) as refusal:
            await call()
        assert refusal.value.reason == "OBJECT_KEY_INVALID"
    assert await objects.list() == []


async def test_longest_key_fits(objects):
    key = "/".join(["k%~._-9A" * 25] * 3)
    stored = await objects.put(key, CONTENT, max_bytes=MOST)
    assert await objects.read(key, sha256=stored.sha256) == CONTENT
    assert await objects.list() == [key]


async def test_a_store_that_is_away_is_unavailable(store):
    for call in (
        lambda: store.away.put(KEY, CONTENT, max_bytes=MOST),
        lambda: store.away.put(KEY, stream(CONTENT), max_bytes=MOST),
    ):
        with pytest.raises(UnavailableError) as away:
            await call()
        assert away.value.reason == "STORAGE_UNAVAILABLE"


async def test_a_document_in_a_bucket_is_parsed_and_its_bytes_go_with_it(
    s3, database: Database, everything, tmp_path: Path
):
    make_bucket(s3, "documents")
    objects = await open_objects("s3://documents")
    async with open_rig(database, everything, tmp_path, objects=objects) as rig:
        content = b"Water finds its way. " * 5_000
        await rig.upload(content)
        row = rig.version()
        assert await objects.list() == [row["object_key"]]
        await rig.prepare()
        await rig.searchable()
        assert rig.state() == "INDEXED"
        await rig.delete()
        await rig.report_purged()
        assert rig.state() == "DELETED"
        assert await objects.list() == []


@pytest.mark.parametrize("url", ["https://a/b", "s3://", "s3://A_B/c", "s3://a?b", "file:///x"])
async def test_an_address_that_is_no_store_is_named(url):
    with pytest.raises(FailedPreconditionError) as refusal:
        await open_objects(url)
    assert refusal.value.reason == "OBJECTS_URL_INVALID"
