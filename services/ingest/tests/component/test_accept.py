"""An upload is durable before it is answered, one upload once, and versions stay dense."""

import asyncio
import hashlib
import itertools
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from aquifer.auth.v1.auth_events_pb2 import TenantCreated, TenantResumed, TenantSuspended
from aquifer.ingest.v1.document_events_pb2 import (
    DocumentAccepted,
    DocumentFailed,
    DocumentIndexed,
    VersionAccepted,
)
from aquifer.ingest.v1.upload_events_pb2 import ContentReference, DocumentUploaded
from chassis.base.errors import (
    AlreadyExistsError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from ingest.domain import State
from ingest.usecases.uploads.admission import Limits
from ingest.usecases.uploads.refusals import TenantLateError
from ingest.usecases.work import Work
from services.ingest.tests.conftest import NAME, TENANT, TRACE, Rig, ids, messages

TEXT = b"Water finds its way."
LARGE = b"Water finds its way. " * 5_000


async def test_an_upload_is_on_disk_and_in_the_database_when_it_is_answered(rig: Rig):
    view = await rig.upload(title="Report", metadata={"k": "v"}, file_name="r.txt")
    assert (view.version.number, view.version.state) == (1, State.ACCEPTED)
    row = rig.version()
    assert row["trace_id"] == TRACE
    assert row["metadata"] == {"k": "v"}
    assert rig.content() == TEXT
    [event] = rig.outbox()
    assert event == VersionAccepted(tenant=TENANT, document=NAME, version=1)


async def test_large_bytes_are_an_object_before_the_upload_is_answered(rig: Rig):
    await rig.upload(LARGE)
    row = rig.version()
    assert await rig.objects.read(row["object_key"], sha256=row["sha256"]) == LARGE
    assert rig.count("contents") == 0


async def test_the_same_bytes_are_the_same_version_and_leave_no_second_object(rig: Rig):
    for content in (TEXT, LARGE):
        name = f"collections/reports/documents/{len(content)}"
        await rig.upload(content, name=name)
        again = await rig.upload(content, name=name)
        assert again.version.number == 1
    assert len(await rig.objects.list(TENANT)) == 1
    assert (rig.count("contents"), rig.count("versions")) == (1, 2)
    assert len(rig.outbox()) == 2


async def test_other_bytes_are_the_next_version(rig: Rig):
    await rig.upload()
    assert (await rig.upload(b"Other bytes.")).version.number == 2
    assert (await rig.upload(TEXT)).version.number == 3


async def test_the_bytes_of_a_failed_version_are_a_new_version(rig: Rig):
    await rig.upload(b"\x00\x01\x02" * 99)
    await rig.prepare()
    assert rig.state() == "FAILED"
    assert (await rig.upload(b"\x00\x01\x02" * 99)).version.number == 2


async def test_concurrent_uploads_of_one_name_get_dense_versions(rig: Rig):
    views = await asyncio.gather(
        *(rig.upload(f"Text number {n}".encode(), name=NAME) for n in range(5))
    )
    assert sorted(view.version.number for view in views) == [1, 2, 3, 4, 5]


async def test_concurrent_uploads_of_the_same_bytes_are_one_version(rig: Rig):
    views = await asyncio.gather(*(rig.upload(LARGE) for _ in range(5)))
    assert {view.version.number for view in views} == {1}
    assert len(await rig.objects.list(TENANT)) == 1


async def test_a_repeated_request_answers_with_its_own_version(rig: Rig):
    await rig.upload(request_id="r1")
    await rig.upload(b"Newer bytes.", request_id="r2")
    again = await rig.upload(request_id="r1")
    assert again.version.number == 1
    assert (rig.count("versions"), rig.count("contents")) == (2, 2)


@pytest.mark.parametrize("name", [NAME, "collections/reports/documents/other"])
async def test_a_request_id_with_other_content_is_refused(rig: Rig, name: str):
    await rig.upload(request_id="r1")
    content = b"Something else." if name == NAME else TEXT
    with pytest.raises(AlreadyExistsError) as refusal:
        await rig.upload(content, name=name, request_id="r1")
    assert refusal.value.reason == "REQUEST_REUSED"
    assert refusal.value.facts == {"document": NAME, "version": "1"}
    assert (rig.count("versions"), rig.count("contents")) == (1, 1)


async def test_concurrent_repeats_of_a_request_are_one_version(rig: Rig):
    views = await asyncio.gather(*(rig.upload(request_id="r1") for _ in range(5)))
    assert {view.version.number for view in views} == {1}


async def test_nothing_is_left_of_an_upload_without_bytes(rig: Rig):
    with pytest.raises(InvalidInputError) as refusal:
        await rig.upload(b"")
    assert refusal.value.reason == "EMPTY_DOCUMENT"
    assert (rig.count("documents"), await rig.objects.list(TENANT)) == (0, [])


async def test_nothing_is_left_of_an_upload_that_is_too_large(rig: Rig):
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b"x" * (128 << 10)

    with pytest.raises(InvalidInputError) as refusal:
        await rig.upload(pieces())  # type: ignore[arg-type]
    assert refusal.value.reason == "DOCUMENT_TOO_LARGE"
    assert (rig.count("documents"), await rig.objects.list(TENANT)) == (0, [])


async def test_a_full_backlog_refuses_with_a_time_to_retry(rig: Rig):
    rig.wired.rpc.accept.admission.limits = Limits(documents=5, size_bytes=1 << 30)
    for number in range(5):
        await rig.upload(name=f"collections/reports/documents/{number}")
    with pytest.raises(OverloadedError) as refusal:
        await rig.upload()
    assert refusal.value.reason == "BACKLOG_FULL"
    assert refusal.value.retry_after_s > 0


async def test_the_backlog_of_one_tenant_is_not_that_of_another(rig: Rig):
    rig.wired.rpc.accept.admission.limits = Limits(documents=5, size_bytes=1 << 30)
    for number in range(5):
        await rig.upload(name=f"collections/reports/documents/{number}")
    assert (await rig.upload(tenant="globex")).version.number == 1


async def test_an_upload_event_is_accepted_and_named_in_the_acknowledgement(rig: Rig):
    assert messages(await rig.event(correlation_id="order-1")) == [
        DocumentAccepted(
            tenant=TENANT, document=NAME, version=1, upload_event_id="e1", correlation_id="order-1"
        ),
        VersionAccepted(tenant=TENANT, document=NAME, version=1),
    ]


async def test_an_upload_event_delivered_again_is_acknowledged_again_under_the_same_id(rig: Rig):
    first = await rig.event()
    again = await rig.event(attempt=2)
    assert ids(again) == ids(first)[:1]
    assert (rig.count("versions"), rig.count("contents")) == (1, 1)


async def test_the_same_id_of_another_source_is_another_upload(rig: Rig):
    await rig.event(b"One text.")
    await rig.event(b"Another text.", source="/other")
    assert (rig.count("versions"), rig.count("uploads")) == (2, 2)


async def test_every_upload_event_of_one_version_gets_its_own_result(rig: Rig):
    await rig.event(event_id="e1", correlation_id="c1")
    await rig.event(event_id="e2", correlation_id="c2")
    acknowledged = [e.upload_event_id for e in rig.outbox() if isinstance(e, DocumentAccepted)]
    assert acknowledged == ["e1", "e2"]
    await rig.prepare()
    published = await rig.searchable()
    results = {event.upload_event_id: event for event in messages(published)}
    assert set(results) == {"e1", "e2"}
    assert results["e2"].correlation_id == "c2"
    assert (results["e1"].unchanged, results["e2"].unchanged) == (False, True)
    assert len(set(ids(published))) == 2


async def test_an_upload_event_with_the_bytes_that_are_live_is_indexed_at_once(rig: Rig):
    await rig.index_version()
    rig.clear_outbox()
    await rig.event(event_id="e9")
    [event] = rig.outbox()
    assert event == DocumentIndexed(
        tenant=TENANT, document=NAME, version=1, upload_event_id="e9", chunk_count=1, unchanged=True
    )


async def test_a_finished_upload_event_sent_again_hears_its_result_again(rig: Rig):
    await rig.event()
    await rig.prepare()
    [published] = await rig.searchable()
    rig.clear_outbox()
    await rig.event()
    stored = rig.rows.execute("SELECT headers, payload FROM outbox").fetchall()
    assert [row["headers"]["ce-id"] for row in stored] == [published.headers["ce-id"]]
    assert bytes(stored[0]["payload"]) == published.payload


async def test_a_late_tenant_is_waited_for_and_an_unknown_one_refused(rig: Rig):
    rig.rows.execute("DELETE FROM tenants")
    for attempt in range(1, 5):
        with pytest.raises(TenantLateError):
            await rig.event(attempt=attempt)
    with pytest.raises(NotFoundError) as refusal:
        await rig.event(attempt=5)
    assert refusal.value.reason == "TENANT_UNKNOWN"
    assert (rig.count("documents"), await rig.objects.list(TENANT)) == (0, [])


async def test_a_suspended_tenant_is_told_so(rig: Rig):
    await rig.deliver(TenantSuspended(tenant=TENANT))
    [event] = messages(await rig.event(correlation_id="c"))
    assert (event.reason, event.version) == ("TENANT_SUSPENDED", 0)
    assert (event.upload_event_id, event.correlation_id) == ("e1", "c")
    assert rig.count("documents") == 0


async def test_a_tenant_heard_of_after_its_suspension_stays_suspended(rig: Rig):
    rig.rows.execute("DELETE FROM tenants")
    await rig.deliver(TenantSuspended(tenant=TENANT))
    await rig.deliver(TenantCreated(tenant=TENANT))
    [event] = messages(await rig.event())
    assert event.reason == "TENANT_SUSPENDED"


async def test_a_resumed_tenant_uploads_again(rig: Rig):
    await rig.deliver(TenantSuspended(tenant=TENANT, sequence=1))
    [event] = messages(await rig.event())
    assert event.reason == "TENANT_SUSPENDED"
    await rig.deliver(TenantResumed(tenant=TENANT, sequence=2))
    await rig.event(event_id="e2")
    assert rig.version()["upload_event_id"] == "e2"


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_of_a_tenants_facts_the_highest_sequence_holds_in_any_order(rig: Rig, order):
    rig.rows.execute("DELETE FROM tenants")
    for tenant, known in ((TENANT, 3), ("globex", 4)):
        facts = [
            TenantCreated(tenant=tenant),
            TenantSuspended(tenant=tenant, sequence=1),
            TenantResumed(tenant=tenant, sequence=2),
            TenantSuspended(tenant=tenant, sequence=3),
        ]
        for number in order:
            if number < known:
                await rig.deliver(facts[number])
    rows = rig.rows.execute("SELECT suspended, sequence FROM tenants ORDER BY tenant_id").fetchall()
    assert [(row["suspended"], row["sequence"]) for row in rows] == [(False, 2), (True, 3)]


async def test_a_suspension_told_before_facts_were_numbered_can_be_taken_back(rig: Rig):
    await rig.deliver(TenantSuspended(tenant=TENANT))
    [event] = messages(await rig.event())
    assert event.reason == "TENANT_SUSPENDED"
    await rig.deliver(TenantResumed(tenant=TENANT, sequence=1))
    await rig.event(event_id="e2")
    assert rig.version()["upload_event_id"] == "e2"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "documents/x"}, "DOCUMENT_NAME"),
        ({"name": "x" * 5000}, "DOCUMENT_NAME"),
        ({"title": "t" * 513}, "METADATA_RANGE"),
        ({"title": "with\x00nul"}, "METADATA_RANGE"),
        ({"metadata": {"": "v"}}, "METADATA_RANGE"),
        ({"metadata": {"k": None}}, "METADATA_RANGE"),
        ({"metadata": {"k": {"a": 1}}}, "METADATA_RANGE"),
        ({"metadata": {str(n): "v" for n in range(33)}}, "METADATA_RANGE"),
        ({"correlation_id": "c" * 129}, "METADATA_RANGE"),
        ({"content": b""}, "EMPTY_DOCUMENT"),
        ({"content": b"x" * (256 * 1024 + 1)}, "DOCUMENT_TOO_LARGE"),
        ({"reference": ContentReference(uri="file:///x", sha256="no")}, "REFERENCE_INVALID"),
    ],
)
async def test_a_bad_upload_event_gets_a_result_and_has_no_effect(rig: Rig, fields, reason):
    sent = await rig.event(**fields)
    [event] = messages(sent)
    assert isinstance(event, DocumentFailed)
    assert (event.reason, event.version, event.upload_event_id) == (reason, 0, "e1")
    again = await rig.event(**fields)
    assert ids(again) == ids(sent)
    assert (rig.count("documents"), rig.count("uploads")) == (0, 1)
    assert await rig.objects.list(TENANT) == []


async def test_a_refusal_is_final_for_its_id_and_a_new_id_is_judged_anew(rig: Rig):
    large = b"x" * (100 * 1024)
    sent = await rig.event(large, title="t" * 513, correlation_id="c")
    again = await rig.event(large, title="corrected", correlation_id="other")
    assert ids(again) == ids(sent)
    assert messages(again) == messages(sent)
    assert (rig.count("documents"), await rig.objects.list(TENANT)) == (0, [])
    await rig.event(large, event_id="e2", title="corrected", correlation_id="c")
    assert rig.version()["upload_event_id"] == "e2"
    assert messages(await rig.event(large)) == messages(sent)


async def test_the_same_id_of_another_source_is_not_refused_with_it(rig: Rig):
    await rig.event(title="t" * 513)
    await rig.event(source="/other")
    assert rig.version()["source"] == "/other"


async def test_an_upload_event_that_was_given_up_is_judged_again_when_it_is_replayed(rig: Rig):
    upload = DocumentUploaded(tenant=TENANT, document=NAME, content=b"Water finds its way.")
    error = NotFoundError("ATTEMPTS_EXHAUSTED", "5 tries failed")
    [failed] = messages(await rig.give_up(upload, error, event_id="e1"))
    assert (failed.reason, failed.version, failed.upload_event_id) == (
        "ATTEMPTS_EXHAUSTED",
        0,
        "e1",
    )
    await rig.event()
    assert rig.version()["upload_event_id"] == "e1"


async def test_an_upload_event_without_a_body_is_refused(rig: Rig):
    [event] = messages(await rig.deliver(DocumentUploaded(tenant=TENANT, document=NAME)))
    assert event.reason == "BODY_MISSING"


async def test_what_was_accepted_is_not_refused_when_it_comes_again(rig: Rig):
    """Its file is gone, the backlog full, the tenant suspended: it was accepted before that."""
    await rig.event(reference=reference(rig, TEXT))
    (rig.drops / "in" / "a report.txt").unlink()
    again = ContentReference(
        uri=f"file://{rig.drops}/in/a%20report.txt",
        sha256=hashlib.sha256(TEXT).hexdigest(),
        size_bytes=len(TEXT),
    )
    rig.clear_outbox()
    await rig.event(reference=again)
    rig.wired.rpc.accept.admission.limits = Limits(documents=1, size_bytes=1 << 30)
    await rig.event()
    rig.wired.rpc.accept.admission.limits = Limits(documents=100, size_bytes=1 << 30)
    await rig.deliver(TenantSuspended(tenant=TENANT))
    await rig.event()
    upload = DocumentUploaded(tenant=TENANT, document=NAME, content=TEXT)
    error = NotFoundError("ATTEMPTS_EXHAUSTED", "5 tries failed")
    await rig.give_up(upload, error, event_id="e1")
    assert [type(event) for event in rig.outbox()] == [DocumentAccepted] * 4


async def test_a_full_backlog_refuses_upload_events_and_takes_them_later(rig: Rig):
    rig.wired.rpc.accept.admission.limits = Limits(documents=5, size_bytes=1 << 30)
    for number in range(5):
        await rig.upload(name=f"collections/reports/documents/{number}")
    [event] = messages(await rig.event())
    assert event.reason == "BACKLOG_FULL"
    rig.rows.execute("UPDATE versions SET state = 'SUPERSEDED', step_due_at = NULL")
    await asyncio.sleep(0.15)
    assert messages(await rig.event()) == [event]
    await rig.event(event_id="e2")
    assert rig.version()["upload_event_id"] == "e2"


async def test_uploads_that_come_together_share_one_count_of_the_backlog(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    admission, counted = rig.wired.rpc.accept.admission, 0
    begin = admission.begin

    def counting(tenant: str) -> AbstractAsyncContextManager[Work]:
        nonlocal counted
        counted += 1
        return begin(tenant)

    monkeypatch.setattr(admission, "begin", counting)
    entered: list[int] = []

    async def check(number: int) -> None:
        await admission.admit(TENANT)
        entered.append(number)

    await asyncio.gather(*map(check, range(100)))
    assert counted == 1
    assert entered == list(range(100))


async def test_a_count_that_fails_is_made_again(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    admission = rig.wired.rpc.accept.admission

    def fail(tenant: str) -> AbstractAsyncContextManager[Work]:
        raise UnavailableError("DATABASE_UNAVAILABLE", "away")

    with monkeypatch.context() as patched:
        patched.setattr(admission, "begin", fail)
        failed = await asyncio.gather(
            *(admission.admit(TENANT) for _ in range(3)), return_exceptions=True
        )
    assert [type(one) for one in failed] == [UnavailableError] * 3
    await admission.admit(TENANT)


async def test_a_caller_that_leaves_does_not_end_the_count_of_others(rig: Rig):
    admission = rig.wired.rpc.accept.admission
    first, second = (asyncio.create_task(admission.admit(TENANT)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await second


def incompressible(length: int) -> str:
    """Four bytes a character; an index keeps what repeats in less room than that."""
    signs = random.Random(length)
    return "".join(chr(signs.randrange(0x20000, 0x2A6E0)) for _ in range(length))


async def test_the_longest_id_and_source_fit_the_index(rig: Rig):
    longest = incompressible(128)
    for _ in range(2):
        await rig.event(event_id=longest, source=longest[::-1])
    assert rig.version()["upload_event_id"] == longest
    assert rig.count("uploads") == 1


@pytest.mark.parametrize("event_id", ["x" * 513, incompressible(512)])
async def test_an_id_that_can_not_be_kept_is_a_dead_letter_that_is_told(rig: Rig, event_id: str):
    upload = DocumentUploaded(tenant=TENANT, document=NAME, content=TEXT)
    with pytest.raises(InvalidInputError) as refusal:
        await rig.deliver(upload, event_id=event_id, source=event_id)
    assert refusal.value.reason == "UPLOAD_EVENT_ID"
    published = await rig.give_up(upload, refusal.value, event_id=event_id, source=event_id)
    [event] = messages(published)
    assert event.reason == "UPLOAD_EVENT_ID"


def reference(rig: Rig, content: bytes, **changes: object) -> ContentReference:
    (rig.drops / "in").mkdir(exist_ok=True)
    path = rig.drops / "in" / "a report.txt"
    path.write_bytes(content)
    values = {
        "uri": path.as_uri(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
    return ContentReference(**{**values, **changes})  # type: ignore[arg-type]


async def test_a_reference_is_read_and_checked(rig: Rig):
    large = b"Large enough to need a reference. " * 10_000
    await rig.event(reference=reference(rig, large))
    row = rig.version()
    assert row["size_bytes"] == len(large)
    assert await rig.objects.read(row["object_key"], sha256=row["sha256"]) == large


async def test_a_reference_that_does_not_match_leaves_nothing(rig: Rig):
    wrong = [
        reference(rig, TEXT, sha256="0" * 64),
        reference(rig, TEXT, size_bytes=len(TEXT) + 1),
    ]
    for number, one in enumerate(wrong):
        [event] = messages(await rig.event(event_id=f"e{number}", reference=one))
        assert event.reason == "REFERENCE_MISMATCH"
    assert (rig.count("documents"), await rig.objects.list(TENANT)) == (0, [])


async def test_a_reference_to_a_socket_is_refused_and_holds_nothing_up(rig: Rig):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(rig.drops / "socket"))
    uri = (rig.drops / "socket").as_uri()
    one = ContentReference(uri=uri, sha256="0" * 64, size_bytes=1)
    [event] = messages(await rig.event(reference=one))
    assert (event.reason, event.version) == ("REFERENCE_FORBIDDEN", 0)


async def test_an_object_without_a_row_is_swept_by_age_and_no_other(rig: Rig):
    await rig.index_version(LARGE)
    kept = await rig.objects.list(TENANT)
    old = f"{TENANT}/{'0' * 64}/{1_000_000_000_000:013d}-orphan"
    young = rig.wired.rpc.accept.make_key(TENANT, NAME)
    for key in (old, young):
        await rig.objects.put(key, b"left by a crash", max_bytes=100)
    assert await rig.wired.maintenance.sweep_objects.run() == 1
    assert await rig.objects.list(TENANT) == sorted([*kept, young])


async def test_a_crash_between_object_and_transaction_is_no_upload(rig: Rig):
    """The database goes away after the bytes were stored: nothing was acknowledged."""
    rig.rows.execute("ALTER TABLE versions RENAME TO versions_away")
    try:
        with pytest.raises(UnavailableError):
            await rig.upload()
    finally:
        rig.rows.execute("ALTER TABLE versions_away RENAME TO versions")
    assert (rig.count("documents"), rig.count("outbox")) == (0, 0)
    assert (await rig.upload()).version.number == 1


async def test_an_object_store_that_is_away_accepts_nothing(rig: Rig):
    rig.objects_dir.rmdir()
    with pytest.raises(UnavailableError):
        await rig.upload(LARGE)
    assert rig.count("documents") == 0
