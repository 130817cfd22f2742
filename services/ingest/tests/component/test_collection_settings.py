"""What the settings of a collection change for its documents."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from psycopg.rows import DictRow

from aquifer.ingest.v1.document_events_pb2 import DocumentDeletionRequested, DocumentFailed
from chassis.base.errors import AlreadyExistsError, NotFoundError
from chassis.base.postgres import Database
from ingest.collections import CollectionSettings
from ingest.cutting import chunk_id
from ingest.steps import Step
from services.ingest.tests.conftest import CHUNKS, NAME, TENANT, Rig, messages, open_rig

COLLECTION = NAME.split("/")[1]
OTHER = "collections/others/documents/a"
TEXT = ("Water finds its way. " * 200).encode()


async def create(rig: Rig, collection: str = COLLECTION, **settings: Any) -> None:
    given = CollectionSettings(**settings)
    await rig.wired.rpc.create_collection.run(TENANT, collection, given)


def longest(rig: Rig, name: str = NAME) -> int:
    [row] = rig.rows.execute(
        "SELECT max(length(text)) AS chars FROM chunks WHERE document = %s", [name]
    ).fetchall()
    return int(row["chars"])


@pytest.fixture(params=["rig", "quick"])
def either(request: pytest.FixtureRequest) -> Rig:
    """One that parses every document, and one that cuts small text when it is accepted."""
    rig: Rig = request.getfixturevalue(request.param)
    return rig


async def accept(rig: Rig, name: str = NAME, content: bytes = TEXT) -> None:
    await rig.upload(content, name=name)
    if rig.rows.execute("SELECT 1 FROM chunks WHERE document = %s", [name]).fetchone() is None:
        await rig.prepare(name=name)


async def test_chunks_have_the_sizes_of_their_collection(either: Rig):
    await create(either, target_chars=500, max_chars=600)
    await accept(either)
    await accept(either, OTHER)
    assert 500 < longest(either) <= 600
    assert longest(either, OTHER) <= 120


async def test_new_sizes_hold_for_the_next_version(either: Rig):
    await accept(either)
    assert longest(either) <= 120
    await create(either, target_chars=500, max_chars=600)
    await either.upload(TEXT + b"More.")
    await either.prepare(2)
    assert longest(either) > 500


async def test_small_text_is_cut_at_once_if_only_other_settings_are_set(quick: Rig):
    await create(quick, description="x", retention_s=3_600)
    await quick.upload(b"Water finds its way.")
    assert quick.state() == "PREPARED"


@pytest.fixture
async def strict(
    database: Database, everything: psycopg.Connection[DictRow], tmp_path: Path
) -> AsyncIterator[Rig]:
    """A service that only takes uploads into created collections."""
    async with open_rig(database, everything, tmp_path, implicit_collections=False) as rig:
        yield rig


async def test_without_implicit_collections_a_new_name_is_refused(strict: Rig):
    for size in (10, 100_000):
        with pytest.raises(NotFoundError) as error:
            await strict.upload(b"x" * size)
        assert error.value.reason == "COLLECTION_UNKNOWN"
    assert (strict.count("documents"), await strict.objects.list()) == (0, [])
    await create(strict)
    assert (await strict.upload()).version.number == 1
    with pytest.raises(NotFoundError):
        await strict.upload(name=OTHER)


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_repeat_gets_its_version_although_the_collection_is_gone(strict: Rig, size: int):
    content = b"x" * size
    await create(strict)
    await strict.upload(content, request_id="r1")
    await strict.wired.rpc.delete_collection.run(TENANT, COLLECTION, force=True)
    again = await strict.upload(content, request_id="r1")
    assert (again.version.number, again.version.state) == (1, "DELETING")
    with pytest.raises(AlreadyExistsError):
        await strict.upload(b"other", request_id="r1")
    for request_id in ("", "r2"):
        with pytest.raises(NotFoundError) as error:
            await strict.upload(content, request_id=request_id)
        assert error.value.reason == "COLLECTION_UNKNOWN"
    assert strict.count("versions") == 1


async def test_without_implicit_collections_an_upload_event_fails_with_the_reason(strict: Rig):
    sent = await strict.event(content=b"Water.")
    [failed] = messages(sent)
    assert isinstance(failed, DocumentFailed)
    assert (failed.reason, failed.version) == ("COLLECTION_UNKNOWN", 0)


async def test_old_documents_are_deleted_newer_ones_stay(rig: Rig):
    await create(rig, retention_s=3_600)
    await rig.index_version()
    young = NAME + "-young"
    await rig.index_version(name=OTHER)
    rig.rows.execute("UPDATE versions SET accepted_at = accepted_at - interval '2 hours'")
    await rig.index_version(name=young)
    before = rig.last_outgoing()
    assert await rig.wired.maintenance.delete_old.run() == 1
    assert rig.state() == "DELETING"
    [order] = messages(rig.outgoing(before))
    assert isinstance(order, DocumentDeletionRequested)
    assert order.document == NAME
    for name in (OTHER, young):
        assert rig.version(name=name)["state"] == "INDEXED"
    assert await rig.wired.maintenance.delete_old.run() == 0


async def test_a_new_upload_keeps_a_document(rig: Rig):
    await create(rig, retention_s=3_600)
    await rig.index_version()
    rig.rows.execute("UPDATE versions SET accepted_at = accepted_at - interval '2 hours'")
    await rig.upload(b"Newer.")
    assert await rig.wired.maintenance.delete_old.run() == 0
    assert rig.state() == "INDEXED"


LETTER = b"Write to jane.doe@example.com. " + TEXT
STEPS = (Step.PII_MASKING,)


def stored(rig: Rig, number: int = 1) -> str:
    """All that is stored of a version beside its bytes, and all events, as one text."""
    tables = "SELECT c::text AS row FROM chunks c UNION ALL SELECT v::text FROM versions v"
    rows = rig.rows.execute(tables.encode()).fetchall()  # type: ignore[arg-type]
    return "".join(row["row"] for row in rows) + "".join(map(str, rig.outbox()))


async def test_masked_data_is_in_no_row_and_no_event_for_either_way_in(either: Rig):
    await create(either, steps=STEPS)
    await accept(either, content=LETTER)
    assert either.state() == "PREPARED"
    said = stored(either)
    assert "[EMAIL]" in said
    assert "jane" not in said
    assert either.version()["notes"] == [["PII_MASKING", "version 1: 1 EMAIL"]]


async def test_steps_hold_for_the_next_version_and_are_part_of_the_ids(either: Rig):
    def list_ids(number: int) -> set[object]:
        found = either.rows.execute("SELECT chunk_id FROM chunks WHERE version = %s", [number])
        return {row["chunk_id"] for row in found.fetchall()}

    await accept(either, content=LETTER)
    assert "jane" in stored(either)
    await create(either, steps=STEPS)
    await either.upload(LETTER + b"More.")
    await either.prepare(2)
    assert either.version(2)["notes"] == [["PII_MASKING", "version 1: 1 EMAIL"]]
    [masked, *_] = sorted(map(str, list_ids(2)))
    assert masked != str(chunk_id(TENANT, NAME, 2, 0, CHUNKS.key))
    assert {
        chunk_id(TENANT, NAME, 2, ordinal, f"{CHUNKS.key}+PII_MASKING.1")
        for ordinal in range(len(list_ids(2)))
    } == list_ids(2)


async def test_a_span_tells_the_steps_and_their_counts(rig: Rig):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    await create(rig, steps=STEPS)
    await rig.upload(LETTER)
    with provider.get_tracer("test").start_as_current_span("process"):
        await rig.prepare()
    [span] = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["aquifer.steps"] == "PII_MASKING.1"
    assert span.attributes["aquifer.step.pii_masking.email"] == 1
