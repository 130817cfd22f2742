"""Uploads by reference to another server: accepted when their bytes are stored, and never lost."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from aquifer.auth.v1.auth_events_pb2 import TenantCreated, TenantSuspended
from aquifer.ingest.v1.document_events_pb2 import DocumentAccepted, DocumentFailed, DocumentIndexed
from aquifer.ingest.v1.upload_events_pb2 import ContentReference, DocumentUploaded
from chassis.base.postgres import Database
from ingest.references.reader import open_references
from ingest.usecases.uploads.fetch_content import ATTEMPTS_MAX, TENANT_MAX
from ingest.usecases.uploads.refusals import TenantLateError
from services.ingest.tests.conftest import NAME, TENANT, Rig, open_rig
from services.ingest.tests.web_server import WebServer, serve

LARGE = b"Water finds its way. " * 10_000
OTHER = "other"


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serve() as server:
        yield server


@pytest.fixture
async def web_rig(
    database: Database, everything: psycopg.Connection[DictRow], tmp_path: Path, server: WebServer
) -> AsyncIterator[Rig]:
    """A rig whose tenants may refer to the server, and to nothing else."""
    references = open_references(None, f"http://127.0.0.1:{server.port}", "127.0.0.1")
    async with open_rig(database, everything, tmp_path, references=references) as rig:
        await rig.deliver(TenantCreated(tenant=OTHER))
        yield rig


@asynccontextmanager
async def fetching(rig: Rig) -> AsyncIterator[None]:
    """While the process runs."""
    task = asyncio.create_task(rig.wired.fetch.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(holds: Callable[[], Any], limit_s: float = 20) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.02)


def refer(server: WebServer, path: str, content: bytes = LARGE, **changes: Any) -> ContentReference:
    values: dict[str, Any] = {
        "uri": server.url(path),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
    return ContentReference(**{**values, **changes})


async def upload(
    rig: Rig, reference: ContentReference, number: int = 1, tenant: str = TENANT, **about: Any
) -> None:
    name = f"collections/reports/documents/{number}"
    event = DocumentUploaded(tenant=tenant, document=name, reference=reference)
    await rig.deliver(event, event_id=f"e{number}", **about)


def of_kind(rig: Rig, kind: type) -> list[Any]:
    return [event for event in rig.outbox() if isinstance(event, kind)]


def make_due(rig: Rig, *, age_s: float = 0) -> None:
    """As if that much time had passed for every upload that waits."""
    rig.rows.execute(
        "UPDATE fetches SET due_at = clock_timestamp(),"
        " created_at = created_at - make_interval(secs => %s)",
        [age_s],
    )


async def test_an_upload_is_accepted_after_its_bytes_are_stored(web_rig: Rig, server: WebServer):
    server.put("/a", LARGE)
    await upload(web_rig, refer(server, "/a"))
    assert web_rig.count("fetches") == 1
    assert web_rig.outbox() == []
    async with fetching(web_rig):
        await until(lambda: not web_rig.count("fetches"))
    [accepted] = of_kind(web_rig, DocumentAccepted)
    assert (accepted.upload_event_id, accepted.version) == ("e1", 1)
    row = web_rig.version(name="collections/reports/documents/1")
    assert await web_rig.objects.read(row["object_key"], sha256=row["sha256"]) == LARGE


async def test_a_repeat_is_fetched_once_and_answered_again(web_rig: Rig, server: WebServer):
    server.put("/a", LARGE)
    for _ in range(3):
        await upload(web_rig, refer(server, "/a"))
    assert web_rig.count("fetches") == 1
    async with fetching(web_rig):
        await until(lambda: not web_rig.count("fetches"))
        await upload(web_rig, refer(server, "/a"))
    assert len(of_kind(web_rig, DocumentAccepted)) == 2
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("path", "changes", "reason"),
    [
        ("/a", {"sha256": "0" * 64}, "REFERENCE_MISMATCH"),
        ("/a", {"size_bytes": len(LARGE) - 1}, "REFERENCE_MISMATCH"),
        ("/a", {"size_bytes": len(LARGE) + 1}, "REFERENCE_MISMATCH"),
        ("/none", {}, "REFERENCE_MISSING"),
        ("/away", {}, "REFERENCE_FORBIDDEN"),
    ],
)
async def test_content_that_can_not_be_read_is_a_result(
    web_rig: Rig, server: WebServer, path: str, changes: dict[str, Any], reason: str
):
    server.put("/a", LARGE)
    server.redirect("/away", "http://169.254.169.254/latest")
    await upload(web_rig, refer(server, path, **changes))
    async with fetching(web_rig):
        await until(lambda: not web_rig.count("fetches"))
    [failed] = of_kind(web_rig, DocumentFailed)
    assert (failed.reason, failed.version, failed.upload_event_id) == (reason, 0, "e1")
    assert (web_rig.count("documents"), await web_rig.objects.list(TENANT)) == (0, [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"uri": "https://127.0.0.1/a"}, "REFERENCE_SCHEME"),
        ({"uri": "file:///etc/passwd"}, "REFERENCE_SCHEME"),
        ({"uri": "http://169.254.169.254/a"}, "REFERENCE_FORBIDDEN"),
        ({"size_bytes": 2 << 20}, "DOCUMENT_TOO_LARGE"),
    ],
)
async def test_what_needs_no_server_to_be_refused_is_refused_at_once(
    web_rig: Rig, server: WebServer, changes: dict[str, Any], reason: str
):
    await upload(web_rig, refer(server, "/a", **changes))
    [failed] = of_kind(web_rig, DocumentFailed)
    assert failed.reason == reason
    assert web_rig.count("fetches") == 0


async def test_a_server_that_comes_back_is_read_then(web_rig: Rig, server: WebServer):
    server.put("/a", b"", 503)
    await upload(web_rig, refer(server, "/a"))
    async with fetching(web_rig):
        await until(lambda: len(server.asked) >= 1)
        server.put("/a", LARGE)
        await until(lambda: not web_rig.count("fetches"))
    assert len(of_kind(web_rig, DocumentAccepted)) == 1
    assert len(server.asked) == 2


async def test_a_server_that_stays_away_is_a_result_after_a_bounded_time(
    web_rig: Rig, server: WebServer
):
    server.put("/a", b"", 503)
    await upload(web_rig, refer(server, "/a"))
    async with fetching(web_rig):
        await until(lambda: len(server.asked) >= 1)
        make_due(web_rig, age_s=web_rig.wired.fetch.give_up_s)
        await until(lambda: not web_rig.count("fetches"))
    [failed] = of_kind(web_rig, DocumentFailed)
    assert (failed.reason, failed.version) == ("REFERENCE_UNAVAILABLE", 0)
    assert "503" in failed.reason_detail


async def test_a_slow_server_delays_no_other_upload(web_rig: Rig, server: WebServer):
    server.hang("/slow")
    server.put("/fast", LARGE)
    for number in range(40):
        await upload(web_rig, refer(server, "/slow"), number)
    async with fetching(web_rig):
        await until(lambda: len(server.asked) == TENANT_MAX)
        await upload(web_rig, refer(server, "/fast"), 100, OTHER)
        await web_rig.event(name=NAME, event_id="inline")
        await until(lambda: len(of_kind(web_rig, DocumentAccepted)) == 2)
        await until(lambda: web_rig.count("fetches") == 40)
        assert len([path for path, _ in server.asked if path == "/slow"]) == TENANT_MAX


async def test_the_later_upload_wins_whichever_is_read_first(web_rig: Rig, server: WebServer):
    server.put("/a", LARGE)
    await upload(web_rig, refer(server, "/a"), stored_ns=1_000)
    name = "collections/reports/documents/1"
    await web_rig.event(b"A later text.", name=name, event_id="later", stored_ns=2_000)
    async with fetching(web_rig):
        await until(lambda: not web_rig.count("fetches"))
    [failed] = of_kind(web_rig, DocumentFailed)
    assert (failed.upload_event_id, failed.reason) == ("e1", "VERSION_SUPERSEDED")
    assert web_rig.content(name=name) == b"A later text."


async def test_known_bytes_are_answered_as_unchanged(web_rig: Rig, server: WebServer):
    server.put("/a", LARGE)
    await web_rig.index_version(LARGE, name="collections/reports/documents/1")
    await upload(web_rig, refer(server, "/a"))
    async with fetching(web_rig):
        await until(lambda: not web_rig.count("fetches"))
    [indexed] = [one for one in of_kind(web_rig, DocumentIndexed) if one.upload_event_id == "e1"]
    assert indexed.unchanged
    assert len(await web_rig.objects.list(TENANT)) == 1


async def test_a_process_that_stops_leaves_its_fetches_to_the_next(web_rig: Rig, server: WebServer):
    server.hang("/a")
    await upload(web_rig, refer(server, "/a"))
    async with fetching(web_rig):
        await until(lambda: len(server.asked) == 1)
    server.put("/a", LARGE)
    async with fetching(web_rig):
        await until(lambda: not web_rig.count("fetches"))
    assert len(of_kind(web_rig, DocumentAccepted)) == 1


async def test_a_fetch_that_is_running_is_not_taken_by_another_process(
    web_rig: Rig, server: WebServer
):
    server.hang("/a")
    await upload(web_rig, refer(server, "/a"))
    web_rig.wired.fetch.lease_s = 1.0
    async with fetching(web_rig):
        await until(lambda: len(server.asked) == 1)
        for _ in range(15):
            await asyncio.sleep(0.1)
            async with web_rig.begin(TENANT) as work:
                assert await work.fetches.take("/upstream", "e1", 1.0) is None
    assert len(server.asked) == 1


async def test_a_fetch_whose_process_died_is_taken_over(web_rig: Rig, server: WebServer):
    server.put("/a", LARGE)
    await upload(web_rig, refer(server, "/a"))
    async with web_rig.begin(TENANT) as work:
        assert await work.fetches.take("/upstream", "e1", 0.5)
    async with fetching(web_rig):
        await until(lambda: not web_rig.count("fetches"))
    assert len(of_kind(web_rig, DocumentAccepted)) == 1


async def test_a_fetch_that_crashes_its_process_again_and_again_is_a_result(
    web_rig: Rig, server: WebServer
):
    server.put("/a", LARGE)
    await upload(web_rig, refer(server, "/a"))
    for _ in range(ATTEMPTS_MAX):
        make_due(web_rig)
        async with web_rig.begin(TENANT) as work:
            assert await work.fetches.take("/upstream", "e1", 600.0)
    make_due(web_rig)
    async with fetching(web_rig):
        await until(lambda: not web_rig.count("fetches"))
    [failed] = of_kind(web_rig, DocumentFailed)
    assert failed.reason == "ATTEMPTS_EXHAUSTED"
    assert server.asked == []


async def test_a_full_object_store_is_waited_for(web_rig: Rig, server: WebServer):
    server.put("/a", LARGE)
    await upload(web_rig, refer(server, "/a"))
    folder = web_rig.objects_dir
    folder.rmdir()
    async with fetching(web_rig):
        await until(lambda: len(server.asked) == 1)
        await until(
            lambda: web_rig.rows.execute(
                "SELECT 1 FROM fetches WHERE attempt = 0 AND due_at > clock_timestamp()"
            ).fetchone()
        )
        folder.mkdir()
        make_due(web_rig)
        web_rig.wired.fetch.accept.due.set()
        await until(lambda: not web_rig.count("fetches"))
    assert len(of_kind(web_rig, DocumentAccepted)) == 1


async def test_only_active_tenants_may_refer(web_rig: Rig, server: WebServer):
    with pytest.raises(TenantLateError):
        await upload(web_rig, refer(server, "/a"), tenant="unknown")
    await web_rig.deliver(TenantSuspended(tenant=OTHER, sequence=1))
    await upload(web_rig, refer(server, "/a"), tenant=OTHER)
    [failed] = of_kind(web_rig, DocumentFailed)
    assert failed.reason == "TENANT_SUSPENDED"
    assert web_rig.count("fetches") == 0


async def test_waiting_uploads_of_a_tenant_are_bounded_and_counted(web_rig: Rig, server: WebServer):
    limit = web_rig.settings.backlog_max
    web_rig.rows.execute(
        "INSERT INTO fetches (tenant_id, source, request_id, upload, stored_ns, trace_id)"
        " SELECT %s, 'x', n, '', 0, '' FROM generate_series(1, %s) AS n",
        [TENANT, limit],
    )
    await upload(web_rig, refer(server, "/a"))
    [failed] = of_kind(web_rig, DocumentFailed)
    assert failed.reason == "BACKLOG_FULL"
    await upload(web_rig, refer(server, "/a"), tenant=OTHER)
    found = {
        (one.tenant, one.state): one.documents for one in await web_rig.sweeper.count_backlog()
    }
    assert found == {(TENANT, "FETCHING"): limit, (OTHER, "FETCHING"): 1}
    assert await web_rig.sweeper.list_due_fetches(2, 10, excluding=[TENANT]) == [
        (OTHER, "/upstream", "e1")
    ]
    assert len(await web_rig.sweeper.list_due_fetches(2, 10, excluding=[])) == 3
