"""The checker finds each defect that is created in the real stores and then undone."""

import asyncio
import uuid
from collections.abc import Callable

import grpc
import psycopg
import pytest

from aquifer.query.vectors.v1 import vector_service_pb2 as pb
from aquifer.query.vectors.v1.vector_service_pb2_grpc import VectorServiceStub
from aquifer_cli import endpoints as found
from aquifer_cli.client import open_client
from tests.faults import evidence as reading
from tests.faults import passing_tenant
from tests.faults.campaign import Campaign
from tests.faults.checker import violations
from tests.faults.evidence import Evidence
from tests.faults.outsider import Outsider

# An upload without an answer may be lost: a defect has to hit one that was acknowledged.
ONE = (
    "(SELECT tenant_id, document, version FROM ingest.versions"
    " WHERE state = 'INDEXED' AND document || ' v' || version = ANY(%(accepted)s) LIMIT 1)"
)
# A passage of a live version.
SHOWN = (
    "(SELECT passages.ctid FROM query.passages JOIN query.documents USING (tenant_id, document)"
    " WHERE version = live_version AND live_version > tombstone_version LIMIT 1)"
)
IN_ROWS = {
    "a version that was lost from the history": (
        (
            "DELETE FROM query.superseded_versions WHERE (tenant_id, document, version) IN"
            " (SELECT tenant_id, document, version FROM ingest.uploads WHERE result = 'INDEXED')"
        ),
        "from the history",
    ),
    "a live version in the history": (
        (
            "INSERT INTO query.superseded_versions (tenant_id, document, version, superseded_at)"
            f" SELECT *, now() FROM {ONE} AS one"
        ),
        "which was not superseded",
    ),
    "a superseded version without a passage": (
        (
            "DELETE FROM query.passages WHERE ctid IN (SELECT passages.ctid FROM query.passages"
            " JOIN query.superseded_versions USING (tenant_id, document, version) LIMIT 1)"
        ),
        "in the history",
    ),
    "points that do not follow their document": (
        (
            "INSERT INTO query.relabelled_documents (tenant_id, document)"
            " SELECT tenant_id, document FROM query.documents LIMIT 1 ON CONFLICT DO NOTHING"
        ),
        "are not updated yet",
    ),
    "a lost version": (
        f"DELETE FROM ingest.versions WHERE (tenant_id, document, version) IN {ONE}",
        "lost: ",
    ),
    "a stuck version": (
        (
            "UPDATE ingest.versions SET state = 'PREPARED', step_due_at = now()"
            f" WHERE (tenant_id, document, version) IN {ONE}"
        ),
        "stuck: ",
    ),
    "an upload that was never fetched": (
        (
            "INSERT INTO ingest.fetches"
            " (tenant_id, source, request_id, upload, stored_ns, trace_id)"
            " VALUES ('default', '/faults', 'x', '', 0, '')"
        ),
        "stuck: ",
    ),
    "a deletion of a collection that does not end": (
        (
            "UPDATE ingest.collection_deletions SET finished_at = NULL, receipt = NULL"
            " WHERE ctid IN (SELECT ctid FROM ingest.collection_deletions LIMIT 1)"
        ),
        "stuck: deletion",
    ),
    "a receipt of a collection that forgets a document": (
        (
            "UPDATE ingest.collection_deletions SET documents = documents - 1"
            " WHERE ctid IN (SELECT ctid FROM ingest.collection_deletions LIMIT 1)"
        ),
        "receipt: ",
    ),
    "a receipt of a collection that counts too much": (
        (
            "UPDATE ingest.collection_deletions"
            " SET receipt = receipt || '{\"chunks\": 100000}'"
            " WHERE ctid IN (SELECT ctid FROM ingest.collection_deletions LIMIT 1)"
        ),
        "receipt: ",
    ),
    "other bytes than were accepted": (
        f"UPDATE ingest.versions SET sha256 = 'x' WHERE (tenant_id, document, version) IN {ONE}",
        "holds other bytes",
    ),
    "a document nobody sent": (
        (
            "INSERT INTO ingest.versions SELECT (v).* FROM (SELECT jsonb_populate_record(i,"
            ' \'{"document": "collections/faults/documents/phantom"}\') AS v'
            " FROM ingest.versions i WHERE state = 'INDEXED' LIMIT 1) AS copied"
        ),
        "phantom: ",
    ),
    "a lost chunk": (
        (
            "DELETE FROM ingest.chunks WHERE ctid IN"
            " (SELECT c.ctid FROM ingest.chunks c JOIN ingest.versions v"
            " USING (tenant_id, document, version) WHERE v.state = 'INDEXED' LIMIT 1)"
        ),
        "passage without live chunk",
    ),
    "a lost passage": (
        f"DELETE FROM query.passages WHERE ctid IN {SHOWN}",
        "chunk without passage",
    ),
    "a passage with other text": (
        (f"UPDATE query.passages SET text = 'changed' WHERE ctid IN {SHOWN}"),
        "other text",
    ),
    "a passage with another heading": (
        (f"UPDATE query.passages SET headings = '[\"other\"]' WHERE ctid IN {SHOWN}"),
        "other text",
    ),
    "a passage without its vector": (
        (
            "WITH one AS (SELECT point_id FROM query.passages LIMIT 1), other AS ("
            "DELETE FROM query.passage_vectors WHERE point_id IN (SELECT point_id FROM one))"
            " UPDATE query.passages SET vector = NULL"
            " WHERE point_id IN (SELECT point_id FROM one)"
        ),
        "without vector",
    ),
    "a description that query does not have": (
        f"UPDATE ingest.versions SET title = 'x' WHERE (tenant_id, document, version) IN {ONE}",
        "other description",
    ),
    "a description that is not confirmed": (
        (
            "UPDATE ingest.versions SET description_due_at = now()"
            f" WHERE (tenant_id, document, version) IN {ONE}"
        ),
        "is not confirmed",
    ),
    "a lost update": (
        "UPDATE ingest.versions SET metadata = '{}' WHERE metadata ? 'update'",
        "lost: update-",
    ),
    "a passage under a foreign tenant": (
        (
            "UPDATE query.passages SET tenant_id = 'other'"
            " WHERE ctid IN (SELECT ctid FROM query.passages LIMIT 1)"
        ),
        "foreign label",
    ),
    "a live version that is not shown": (
        (
            "UPDATE query.documents SET live_version = live_version + 1"
            " WHERE ctid IN (SELECT ctid FROM query.documents"
            " WHERE live_version > tombstone_version LIMIT 1)"
        ),
        "wrong live version",
    ),
    "an upload event without a result": (
        (
            "UPDATE ingest.uploads SET result = ''"
            " WHERE ctid IN (SELECT ctid FROM ingest.uploads WHERE source <> '' LIMIT 1)"
        ),
        "no result",
    ),
    "a live version that was answered as superseded": (
        (
            "UPDATE ingest.uploads SET result = 'VERSION_SUPERSEDED' WHERE ctid IN"
            " (SELECT u.ctid FROM ingest.uploads u JOIN ingest.documents d"
            " ON d.tenant_id = u.tenant_id AND d.name = u.document AND d.live_version = u.version"
            " WHERE u.source <> '' AND u.result = 'INDEXED' AND NOT EXISTS (SELECT FROM"
            " ingest.uploads o WHERE o.tenant_id = u.tenant_id AND o.document = u.document"
            " AND o.version = u.version AND o.request_id <> u.request_id) LIMIT 1)"
        ),
        "and is live",
    ),
    "an upload that is live over the one after it": (
        (
            "UPDATE ingest.uploads u SET version = d.live_version - u.version + 1"
            " FROM ingest.documents d WHERE d.tenant_id = u.tenant_id AND d.name = u.document"
            " AND d.live_version > 1 AND u.version IN (1, d.live_version)"
            " AND d.tombstone_version = 0"
        ),
        "came after it",
    ),
    "lost bytes of a kept version": (
        (
            "DELETE FROM ingest.contents WHERE (tenant_id, document, version) IN"
            " (SELECT tenant_id, document, version FROM ingest.versions WHERE kept)"
        ),
        "lost: the bytes of",
    ),
    "lost text of a kept version": (
        (
            "DELETE FROM ingest.chunks WHERE (tenant_id, document, version) IN"
            " (SELECT tenant_id, document, version FROM ingest.versions WHERE kept)"
        ),
        "lost: the text of",
    ),
    "a kept version too many": (
        (
            "UPDATE ingest.versions SET kept = true WHERE state = 'SUPERSEDED' AND document IN"
            " (SELECT document FROM ingest.versions WHERE kept GROUP BY document"
            " HAVING count(*) = 2)"
        ),
        "are kept, not 2",
    ),
    "a lost signature": (
        (
            "DELETE FROM ingest.signatures WHERE ctid IN"
            " (SELECT ctid FROM ingest.signatures LIMIT 1)"
        ),
        "lost: the signature of",
    ),
    "a signature of a version that is not live": (
        (
            "UPDATE ingest.signatures SET version = version + 1000 WHERE ctid IN"
            " (SELECT ctid FROM ingest.signatures LIMIT 1)"
        ),
        "left: a signature of",
    ),
    "data of a version that is not kept": (
        "UPDATE ingest.versions SET kept = false WHERE kept",
        "which is not kept",
    ),
    "an event left in the outbox": (
        (
            "INSERT INTO ingest.outbox"
            " (tenant_id, document, event, subject, headers, payload, place)"
            " VALUES ('default', 'd', 'e', 's', '{}', '', now() + interval '1 hour')"
        ),
        "in the outbox of ingest",
    ),
    "a failure without a reason": (
        (
            "ALTER TABLE ingest.versions DISABLE TRIGGER ALL;"
            " ALTER TABLE ingest.versions DROP CONSTRAINT versions_check;"
            f" UPDATE ingest.versions SET state = 'FAILED', step_due_at = NULL"
            f" WHERE (tenant_id, document, version) IN {ONE}"
        ),
        "unexplained: ",
    ),
}


@pytest.fixture(scope="module")
def clean(campaign) -> Evidence:
    """The stores after at least one run: documents, deletes and events are there."""
    if not campaign.journal.kills():
        assert asyncio.run(campaign.run(0)).violations == []
    return asyncio.run(campaign.evidence())


def again(campaign: Campaign, connection: psycopg.Connection, clean: Evidence) -> list[str]:
    """What the checker says of the tables as this connection sees them."""
    evidence = Evidence(
        points=clean.points,
        live_points=clean.live_points,
        unsettled=clean.unsettled,
        dead_letters=clean.dead_letters,
        objects=clean.objects,
    )
    reading.read_tables(connection, evidence)
    return violations(campaign.journal, evidence)


def accepted(campaign: Campaign) -> list[str]:
    return [f"{one['document']} v{one['version']}" for one in campaign.journal.accepted().values()]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("defect", IN_ROWS)
def test_a_defect_planted_in_postgres_is_found(campaign, clean, defect):
    statement, expected = IN_ROWS[defect]
    with psycopg.connect(campaign.dsn) as connection:
        assert again(campaign, connection, clean) == []
        changed = psycopg.ClientCursor(connection)  # which can run several statements at once
        changed.execute(statement.encode(), {"accepted": accepted(campaign)})
        assert changed.rowcount != 0
        found_now = again(campaign, connection, clean)
        connection.rollback()
    assert any(expected in line for line in found_now), found_now


def planted(campaign: Campaign, change: Callable[[VectorServiceStub], object]) -> list[str]:
    """What the checker says after `change` was done to the vector store."""

    async def run() -> list[str]:
        socket = campaign.stack.vectors.socket_path
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            await change(VectorServiceStub(channel))
        return violations(campaign.journal, await campaign.evidence())

    return asyncio.run(run())


def point(document: str, ordinal: int) -> pb.Point:
    vector = bytes.fromhex("0000803f") + bytes(4 * 383)
    return pb.Point(
        point_id=str(uuid.uuid4()), document=document, version=1, ordinal=ordinal, dense=vector
    )


@pytest.mark.timeout(300)
def test_defects_planted_in_the_vector_store_are_found(campaign, clean):
    tenant = found.find(campaign.stack.data.path).tenant
    live = clean.profiles[0]
    orphan = point("collections/faults/documents/orphan", 0)
    lines = planted(
        campaign,
        lambda stub: stub.Upsert(pb.UpsertRequest(profile=live, tenant=tenant, points=[orphan])),
    )
    assert {line.partition(":")[0] for line in lines} == {
        "point without passage",
        "live point without live passage",
    }
    assert (
        planted(
            campaign,
            lambda stub: stub.DeletePoints(
                pb.DeletePointsRequest(profile=live, tenant=tenant, point_ids=[orphan.point_id])
            ),
        )
        == []
    )
    evidence = asyncio.run(campaign.evidence())
    _, place = evidence.points[0]
    twin = point(place.document, place.ordinal)
    twin.version = place.version
    lines = planted(
        campaign,
        lambda stub: stub.Upsert(pb.UpsertRequest(profile=live, tenant=tenant, points=[twin])),
    )
    assert any(line.startswith("doubled") for line in lines)
    planted(
        campaign,
        lambda stub: stub.DeletePoints(
            pb.DeletePointsRequest(profile=live, tenant=tenant, point_ids=[twin.point_id])
        ),
    )


@pytest.mark.timeout(300)
def test_a_delete_that_left_something_behind_is_found(campaign, clean):
    """A passage, a chunk and bytes of a document whose delete was acknowledged."""
    deleted = next(iter(campaign.journal.deleted()))
    with psycopg.connect(campaign.dsn) as connection:
        connection.execute(
            "INSERT INTO ingest.chunks SELECT (c).* FROM (SELECT jsonb_populate_record(i,"
            " jsonb_build_object('document', %s::text, 'version', 1)) AS c"
            " FROM ingest.chunks i LIMIT 1) AS copied",
            [deleted],
        )
        lines = again(campaign, connection, clean)
        connection.rollback()
    assert any(line.startswith("not deleted: chunk") for line in lines)
    evidence = asyncio.run(campaign.evidence())
    row = next(r for r in evidence.versions if r["document"] == deleted and r["state"] == "DELETED")
    row["object_key"] = "left"
    evidence.objects.append("left")
    assert any("not deleted: bytes" in line for line in violations(campaign.journal, evidence))


@pytest.mark.timeout(300)
def test_a_key_that_is_shown_what_it_may_not_see_is_noticed(campaign, clean):
    """The outsider searches with a key of all labels, to which everything is shown."""

    async def run() -> list[str]:
        stop = asyncio.Event()
        async with open_client(found.find(campaign.stack.data.path)) as client:
            outsider = Outsider(client)
            searching = asyncio.ensure_future(outsider.search_until(stop))
            async with asyncio.timeout(60):
                while not outsider.answers:
                    await asyncio.sleep(0.05)
            stop.set()
            await searching
        return outsider.violations

    assert "shown: " in asyncio.run(run())[0]


@pytest.mark.timeout(300)
def test_what_is_left_of_a_deleted_tenant_is_found(campaign, clean, monkeypatch):
    """The tenant of the campaign stands for one that was deleted and is still there."""
    monkeypatch.setattr(passing_tenant, "GONE_S", 0.0)
    tenant = found.find(campaign.stack.data.path).tenant
    lines = asyncio.run(passing_tenant.wait_until_gone(campaign.stack, tenant))
    places = {line.rpartition(" in ")[2] for line in lines}
    assert {"auth.keys", "ingest.chunks", "query.passages", "objects"} <= places
    assert f"points of {clean.profiles[0]}" in places


@pytest.mark.timeout(300)
def test_search_itself_is_asked_for_deleted_documents(campaign, clean):
    async def run() -> list[str]:
        async with open_client(found.find(campaign.stack.data.path)) as client:
            return await campaign.found_though_deleted(client, clean)

    assert asyncio.run(run()) == []
