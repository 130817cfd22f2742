"""Uploads in several calls: nothing is lost, doubled or left behind, whoever continues them."""

import asyncio
import hashlib
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from chassis.base.errors import (
    ConflictError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    ServiceError,
    UnavailableError,
)
from chassis.base.postgres import Database
from ingest.domain import Draft, Origin, View
from ingest.objects.local import LocalObjects
from ingest.objects.opening import open_objects
from ingest.usecases.rows import Session
from ingest.usecases.uploads.upload_sessions import PART_BYTES, PART_MIN_BYTES
from services.ingest.tests.conftest import NAME, TENANT, Rig, open_rig
from services.ingest.tests.s3_server import make_bucket

CONTENT = random.Random(1).randbytes(2 * PART_BYTES + 700_000)
PIECE = 256 << 10
SESSIONS_MAX = 4


@dataclass
class Replica:
    """One of several processes: they share the database and the objects, and nothing else."""

    rig: Rig

    async def start(
        self, content: bytes = CONTENT, *, name: str = NAME, sha256: str = "", **header: Any
    ) -> Session:
        draft = Draft(tenant=TENANT, name=name, metadata={}, origin=Origin(), **header)
        digest = sha256 or hashlib.sha256(content).hexdigest()
        return await self.rig.wired.rpc.start_upload.run(draft, digest, len(content))

    async def append(self, session: Session, content: bytes, offset: int | None = None) -> Session:
        at = session.offset if offset is None else offset
        append = replace(self.rig.wired.rpc.append_upload, _storing=set())
        return await append.run(TENANT, session.upload_id, at, pieces(content))

    async def get(self, session: Session) -> Session:
        return await self.rig.wired.rpc.get_upload.run(TENANT, session.upload_id)

    async def finish(self, session: Session) -> View:
        return await replace(self.rig.wired.rpc.finish_upload).run(TENANT, session.upload_id, "")

    async def stored(self, session: Session, offset: int) -> Session:
        """The session, once it has come so far."""
        async with asyncio.timeout(10):
            while (found := await self.get(session)).offset != offset:
                await asyncio.sleep(0.01)
        return found

    async def check_empty(self, objects: int = 0) -> None:
        assert self.rig.count("upload_sessions") == self.rig.count("upload_parts") == 0
        assert len(await self.rig.objects.list()) == objects


async def pieces(content: bytes, ending: BaseException | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PIECE):
        yield content[start : start + PIECE]
        await asyncio.sleep(0)
    if ending:
        raise ending


@pytest.fixture(params=["folder", "bucket"])
async def replica(
    request, database: Database, everything: psycopg.Connection[DictRow], tmp_path: Path
) -> AsyncIterator[Replica]:
    objects = None
    if request.param == "bucket":
        bucket = f"uploads-{uuid.uuid4().hex}"
        make_bucket(request.getfixturevalue("s3"), bucket)
        objects = await open_objects(f"s3://{bucket}")
    changes = {
        "upload_max_bytes": 16 << 20,
        "upload_sessions_max": SESSIONS_MAX,
        "upload_sessions_max_bytes": 24 << 20,
    }
    async with open_rig(database, everything, tmp_path, objects=objects, **changes) as rig:
        yield Replica(rig)


async def test_content_of_several_calls_and_replicas_becomes_one_version(replica: Replica):
    other = Replica(replica.rig)
    session = await replica.start(title="Random", file_name="random.bin")
    for start in range(0, len(CONTENT), 3 << 20):
        turn = other if start else replica
        session = await turn.append(session, CONTENT[start : start + (3 << 20)])
    assert (await other.get(session)).offset == len(CONTENT)
    view = await replica.finish(session)
    version = view.version
    assert (version.number, version.title, version.file_name) == (1, "Random", "random.bin")
    assert version.stored.sha256 == hashlib.sha256(CONTENT).hexdigest()
    stored = await replica.rig.objects.read(version.stored.key, sha256=version.stored.sha256)
    assert stored == CONTENT
    await replica.check_empty(objects=1)
    assert (await other.finish(session)).version.number == 1
    assert replica.rig.count("versions") == 1


async def test_small_content_needs_no_object(replica: Replica):
    content = b"Water finds its way."
    session = await replica.append(await replica.start(content), content)
    await replica.finish(session)
    assert replica.rig.content() == content
    await replica.check_empty()


async def test_the_same_start_continues_and_replaces_the_description(replica: Replica):
    session = await replica.append(await replica.start(title="Old"), CONTENT[:PART_BYTES])
    again = await replica.start(title="New")
    assert (again.upload_id, again.offset) == (session.upload_id, PART_BYTES)
    other = await replica.start(CONTENT[:-1], title="Other bytes")
    assert other.upload_id != session.upload_id
    view = await replica.finish(await replica.append(again, CONTENT[PART_BYTES:]))
    assert view.version.title == "New"


async def test_with_other_labels_it_is_another_upload(replica: Replica):
    session = await replica.start()
    labelled = await replica.start(labels=("finance",))
    assert labelled.upload_id != session.upload_id
    assert (await replica.start(labels=("finance",))).upload_id == labelled.upload_id
    assert (await replica.get(session)).draft.labels == ()


@pytest.mark.parametrize("offset", [0, PART_BYTES - 1, PART_BYTES + 1, len(CONTENT), -1, 1 << 60])
async def test_another_offset_is_refused_with_the_right_one(replica: Replica, offset: int):
    session = await replica.append(await replica.start(), CONTENT[:PART_BYTES])
    with pytest.raises(ConflictError) as refused:
        await replica.append(session, b"x" * PART_MIN_BYTES, offset)
    assert (refused.value.reason, refused.value.facts["offset"]) == (
        "UPLOAD_OFFSET",
        str(PART_BYTES),
    )
    assert (await replica.get(session)).offset == PART_BYTES


async def test_of_calls_at_the_same_offset_one_counts(replica: Replica):
    session = await replica.start()
    half = CONTENT[:PART_BYTES]
    results = await asyncio.gather(
        *(Replica(replica.rig).append(session, half) for _ in range(4)), return_exceptions=True
    )
    refused = [one for one in results if isinstance(one, ConflictError)]
    assert len(refused) == 3
    assert len(await replica.rig.objects.list()) == 1
    rest = await replica.append(await replica.get(session), CONTENT[PART_BYTES:])
    await replica.finish(rest)


@pytest.mark.parametrize("ending", [asyncio.CancelledError(), InvalidInputError("X", "x"), None])
async def test_what_was_received_before_a_call_broke_is_kept(replica: Replica, ending: Any):
    session = await replica.start()
    received = CONTENT[: PART_BYTES + 300_000]
    append = replica.rig.wired.rpc.append_upload
    call = asyncio.ensure_future(append.run(TENANT, session.upload_id, 0, pieces(received, ending)))
    await asyncio.wait([call])
    session = await replica.stored(session, len(received))
    session = await replica.append(session, CONTENT[len(received) :])
    assert (await replica.finish(session)).version.number == 1


async def test_a_rest_too_small_for_a_part_is_sent_again(replica: Replica):
    session = await replica.append(await replica.start(), CONTENT[: PART_MIN_BYTES - 1])
    assert session.offset == 0
    session = await replica.append(session, CONTENT[:PART_MIN_BYTES])
    assert session.offset == PART_MIN_BYTES
    session = await replica.append(session, CONTENT[PART_MIN_BYTES:-1])
    session = await replica.append(session, CONTENT[-1:])
    await replica.finish(session)


async def test_more_than_declared_is_refused(replica: Replica):
    session = await replica.start()
    with pytest.raises(InvalidInputError) as refused:
        await replica.append(session, CONTENT + b"x")
    assert refused.value.reason == "SIZE_MISMATCH"


async def test_less_than_declared_cannot_be_finished(replica: Replica):
    session = await replica.append(await replica.start(), CONTENT[:-1])
    with pytest.raises(InvalidInputError) as refused:
        await replica.finish(session)
    assert refused.value.reason == "SIZE_MISMATCH"
    assert refused.value.facts["offset"] == str(len(CONTENT) - 1)
    await replica.finish(await replica.append(session, CONTENT[-1:]))


async def test_content_with_another_checksum_is_removed(replica: Replica):
    session = await replica.start(sha256="0" * 64)
    session = await replica.append(session, CONTENT)
    with pytest.raises(InvalidInputError) as refused:
        await replica.finish(session)
    assert refused.value.reason == "CHECKSUM_MISMATCH"
    await replica.check_empty()
    assert replica.rig.count("versions") == 0
    with pytest.raises(NotFoundError):
        await replica.finish(session)


async def test_a_lost_part_is_no_document(replica: Replica):
    session = await replica.append(await replica.start(), CONTENT)
    await replica.rig.objects.delete((await replica.rig.objects.list())[1])
    with pytest.raises(InvalidInputError) as refused:
        await replica.finish(session)
    assert refused.value.reason == "CHECKSUM_MISMATCH"
    await replica.check_empty()


@pytest.mark.parametrize("upload_id", ["", "x", "0" * 32, "0" * 31 + "\0", "é" * 400])
async def test_unknown_uploads_are_refused_by_every_call(replica: Replica, upload_id: str):
    rpc = replica.rig.wired.rpc
    for call in (
        rpc.get_upload.run(TENANT, upload_id),
        rpc.append_upload.run(TENANT, upload_id, 0, pieces(b"x")),
        rpc.finish_upload.run(TENANT, upload_id, ""),
    ):
        with pytest.raises(NotFoundError) as refused:
            await call
        assert refused.value.reason == "UPLOAD_UNKNOWN"


async def test_an_upload_of_another_tenant_is_unknown(replica: Replica):
    session = await replica.start()
    with pytest.raises(NotFoundError):
        await replica.rig.wired.rpc.get_upload.run("globex", session.upload_id)


@pytest.mark.parametrize(
    ("sha256", "size_bytes", "reason"),
    [
        ("", 1, "SHA256_INVALID"),
        ("A" * 64, 1, "SHA256_INVALID"),
        ("0" * 64, 0, "EMPTY_DOCUMENT"),
        ("0" * 64, -1, "EMPTY_DOCUMENT"),
        ("0" * 64, (16 << 20) + 1, "DOCUMENT_TOO_LARGE"),
        ("0" * 64, 1 << 62, "DOCUMENT_TOO_LARGE"),
    ],
)
async def test_what_cannot_become_a_document_is_not_started(
    replica: Replica, sha256: str, size_bytes: int, reason: str
):
    draft = Draft(tenant=TENANT, name=NAME, metadata={}, origin=Origin())
    with pytest.raises(InvalidInputError) as refused:
        await replica.rig.wired.rpc.start_upload.run(draft, sha256, size_bytes)
    assert refused.value.reason == reason
    await replica.check_empty()


async def test_the_number_of_uploads_is_bounded_however_many_start_at_once(replica: Replica):
    names = [f"collections/c/documents/{number}" for number in range(3 * SESSIONS_MAX)]
    started = await asyncio.gather(
        *(replica.start(b"x", name=name) for name in names), return_exceptions=True
    )
    refused = [one for one in started if isinstance(one, OverloadedError)]
    assert {one.reason for one in refused} == {"UPLOADS_FULL"}
    assert replica.rig.count("upload_sessions") == SESSIONS_MAX
    # A known one is continued, and one that ends makes room.
    [first, *_] = [one for one in started if isinstance(one, Session)]
    await replica.start(b"x", name=first.draft.name)
    await replica.finish(await replica.append(first, b"x"))
    await replica.start(b"x", name="collections/c/documents/next")


async def test_the_declared_bytes_are_bounded(replica: Replica):
    content = b"x" * (10 << 20)
    await replica.start(content, name="collections/c/documents/1")
    await replica.start(content, name="collections/c/documents/2")
    with pytest.raises(OverloadedError) as refused:
        await replica.start(content, name="collections/c/documents/3")
    assert refused.value.reason == "UPLOADS_FULL"


async def test_starts_of_the_same_upload_at_once_are_one(replica: Replica):
    started = await asyncio.gather(*(replica.start() for _ in range(8)))
    assert len({session.upload_id for session in started}) == 1


async def test_an_upload_that_nobody_continues_expires(replica: Replica):
    old = await replica.append(await replica.start(), CONTENT[:PART_BYTES])
    expire = replica.rig.wired.maintenance.expire_uploads
    assert await expire.run() == 0
    replica.rig.rows.execute("UPDATE upload_sessions SET expires_at = now() - interval '1 s'")
    new = await replica.start(b"new", name="collections/c/documents/new")
    assert await expire.run() == 1
    with pytest.raises(NotFoundError):
        await replica.append(old, CONTENT[PART_BYTES:])
    assert await replica.rig.objects.list() == []
    await replica.finish(await replica.append(new, b"new"))


async def test_a_part_that_is_added_prevents_the_expiry(replica: Replica):
    session = await replica.start()
    replica.rig.rows.execute("UPDATE upload_sessions SET expires_at = now() - interval '1 s'")
    await replica.append(session, CONTENT[:PART_BYTES])
    assert await replica.rig.wired.maintenance.expire_uploads.run() == 0


async def test_other_bytes_of_a_pinned_document_are_refused_before_they_are_sent(replica: Replica):
    await replica.rig.index_version(b"Pinned.")
    await replica.rig.wired.rpc.pin.run(TENANT, NAME, 1)
    with pytest.raises(FailedPreconditionError) as refused:
        await replica.start()
    assert refused.value.reason == "DOCUMENT_PINNED"
    with pytest.raises(FailedPreconditionError):
        await replica.start(b"Pinned.", media_type="application/json")
    await replica.check_empty()
    session = await replica.append(await replica.start(b"Pinned.", title="New"), b"Pinned.")
    assert (await replica.finish(session)).version.title == "New"
    await replica.rig.wired.rpc.unpin.run(TENANT, NAME)
    assert (await replica.start()).offset == 0


async def test_a_pin_ends_when_the_deletion_of_the_collection_begins(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ingest.usecases.deletion.delete_collection.CALL_S", 0.0)
    await replica.rig.index_version(b"Pinned.")
    await replica.rig.wired.rpc.pin.run(TENANT, NAME, 1)
    collection = NAME.split("/")[1]
    with pytest.raises(UnavailableError):
        await replica.rig.wired.rpc.delete_collection.run(TENANT, collection, force=True)
    [row] = replica.rig.rows.execute("SELECT pinned FROM documents").fetchall()
    assert row["pinned"]
    session = await replica.append(await replica.start(b"New."), b"New.")
    assert (await replica.finish(session)).version.number == 2


async def test_a_complete_upload_that_is_refused_is_not_kept_longer(replica: Replica):
    await replica.rig.index_version(b"Pinned.")
    session = await replica.append(await replica.start(), CONTENT)
    await replica.rig.wired.rpc.pin.run(TENANT, NAME, 1)
    with pytest.raises(FailedPreconditionError):
        await replica.finish(session)
    await replica.rig.wired.rpc.unpin.run(TENANT, NAME)
    again = await replica.start()
    assert (again.upload_id, again.expires_at) == (session.upload_id, session.expires_at)
    other = await replica.start(CONTENT[:-1])
    assert (await replica.start(CONTENT[:-1])).expires_at > other.expires_at
    assert (await replica.finish(again)).version.number == 2


async def test_the_sweep_keeps_parts_and_removes_those_without_a_row(replica: Replica):
    session = await replica.append(await replica.start(), CONTENT[:PART_BYTES])
    [kept] = await replica.rig.objects.list()
    key = replica.rig.wired.rpc.append_upload.make_key(TENANT, f"uploads/{session.upload_id}")
    await replica.rig.objects.put(key, b"a crash came between", max_bytes=100)
    await asyncio.sleep(0.01)
    sweep = replace(replica.rig.wired.maintenance.sweep_objects, age_s=0.0)
    assert await sweep.run() == 1
    assert await replica.rig.objects.list() == [kept]


async def test_a_crash_after_the_version_was_recorded_leaves_one_version(replica: Replica):
    session = await replica.append(await replica.start(), CONTENT)
    accept = replica.rig.wired.rpc.accept
    await accept.run(session.make_draft(""), pieces(CONTENT))
    # The process is gone; the client finishes again, elsewhere.
    assert (await replica.finish(session)).version.number == 1
    await replica.check_empty(objects=1)
    assert replica.rig.count("versions") == 1


async def test_a_crash_after_the_version_was_recorded_does_not_hinder_the_next_upload(
    replica: Replica,
):
    session = await replica.append(await replica.start(), CONTENT)
    await replica.rig.wired.rpc.accept.run(session.make_draft(""), pieces(CONTENT))
    await replica.rig.delete()
    again = await replica.start()
    assert (again.upload_id != session.upload_id, again.offset) == (True, 0)
    view = await replica.finish(await replica.append(again, CONTENT))
    assert view.version.number == 2


async def test_finished_several_times_at_once_it_is_one_version(replica: Replica):
    session = await replica.append(await replica.start(), CONTENT)
    views = await asyncio.gather(*(Replica(replica.rig).finish(session) for _ in range(5)))
    assert {view.version.number for view in views} == {1}
    await replica.check_empty(objects=1)


async def test_the_known_bytes_again_are_the_known_version(replica: Replica):
    for _ in range(2):
        session = await replica.append(await replica.start(), CONTENT)
        assert (await replica.finish(session)).version.number == 1
    await replica.check_empty(objects=1)


async def test_a_store_that_is_away_moves_no_offset(replica: Replica, tmp_path: Path):
    session = await replica.append(await replica.start(), CONTENT[:PART_BYTES])
    away = replace(
        replica.rig.wired.rpc.append_upload,
        objects=LocalObjects(tmp_path / "absent"),
        _storing=set(),
    )
    with pytest.raises(ServiceError) as failed:
        await away.run(TENANT, session.upload_id, PART_BYTES, pieces(CONTENT[PART_BYTES:]))
    assert isinstance(failed.value, UnavailableError)
    assert (await replica.get(session)).offset == PART_BYTES
