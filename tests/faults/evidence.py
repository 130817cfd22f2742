"""Reads the stores directly: PostgreSQL as superuser, every point, every consumer."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import nats
import psycopg
from nats.js import JetStreamContext
from psycopg.rows import dict_row

from aquifer.query.vectors.v1.vector_service_pb2 import Filter, ScrollRequest
from aquifer.query.vectors.v1.vector_service_pb2_grpc import VectorServiceStub
from chassis.events import topology
from stack import roles
from stack.nats import Nats
from stack.up import PROVISIONER

PAGE = 1000
FINAL = {"INDEXED", "FAILED", "SUPERSEDED", "DELETED"}

Row = dict[str, Any]


class Place(NamedTuple):
    """Where a chunk, passage or point belongs."""

    tenant: str
    document: str
    version: int
    ordinal: int


@dataclass(slots=True)
class Evidence:
    """Everything the checker looks at."""

    versions: list[Row] = field(default_factory=list)
    documents: list[Row] = field(default_factory=list)
    chunks: list[Row] = field(default_factory=list)
    contents: list[Row] = field(default_factory=list)
    signatures: list[Row] = field(default_factory=list)
    uploads: list[Row] = field(default_factory=list)
    collection_deletions: list[Row] = field(default_factory=list)
    visible: list[Row] = field(default_factory=list)
    passages: list[Row] = field(default_factory=list)
    descriptions: list[Row] = field(default_factory=list)
    # Names of the live embedding profile and of the one beside it, which may be missing.
    profiles: list[str] = field(default_factory=list)
    # Point ids of passages that have a stored vector under the live profile.
    vectors: set[str] = field(default_factory=set)
    points: list[tuple[str, Place]] = field(default_factory=list)
    points_beside: list[tuple[str, Place]] | None = None
    # Versions that were live once, and are kept for searches of the past.
    superseded: list[Row] = field(default_factory=list)
    # Points that searches of live versions see.
    live_points: list[tuple[str, Place]] = field(default_factory=list)
    unfinished_profiles: int = 0
    unsettled: dict[str, int] = field(default_factory=dict)
    outbox: dict[str, int] = field(default_factory=dict)
    pending_removals: int = 0
    pending_updates: int = 0
    fetches: int = 0
    dead_letters: list[dict[str, str]] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)


def read_tables(connection: psycopg.Connection, evidence: Evidence) -> None:
    """Fills in what Postgres holds."""
    with connection.cursor(row_factory=dict_row) as cursor:

        def rows(query: str) -> list[Row]:
            return cursor.execute(query.encode()).fetchall()

        evidence.versions = rows("SELECT * FROM ingest.versions")
        evidence.documents = rows("SELECT * FROM ingest.documents")
        evidence.chunks = rows("SELECT * FROM ingest.chunks")
        evidence.contents = rows(
            "SELECT tenant_id, document, version, encode(sha256(content), 'hex') AS sha256"
            " FROM ingest.contents"
        )
        evidence.signatures = rows("SELECT tenant_id, document, version FROM ingest.signatures")
        evidence.uploads = rows("SELECT * FROM ingest.uploads")
        evidence.collection_deletions = rows("SELECT * FROM ingest.collection_deletions")
        evidence.visible = rows("SELECT * FROM query.documents")
        evidence.passages = rows("SELECT * FROM query.passages")
        evidence.descriptions = rows("SELECT * FROM query.descriptions")
        evidence.superseded = rows("SELECT * FROM query.superseded_versions")
        evidence.profiles = read_profiles(connection)
        live = (
            "SELECT point_id FROM query.passages JOIN query.profiles_in_use"
            " ON vector_profile = live WHERE vector IS NOT NULL UNION "
            "SELECT point_id FROM query.passage_vectors JOIN query.profiles_in_use"
            " ON profile = live"
        )
        evidence.vectors = {str(row["point_id"]) for row in rows(live)}
    _read_queues(connection, evidence)


def read_profiles(connection: psycopg.Connection) -> list[str]:
    """The live profile, and the one beside it if there is one."""
    row = connection.execute("SELECT live, beside FROM query.profiles_in_use").fetchone()
    return [one for one in row or () if one]


def read_pending(connection: psycopg.Connection, evidence: Evidence) -> None:
    """Fills in only what Postgres holds of unfinished work; asked again and again."""
    with connection.cursor(row_factory=dict_row) as cursor:
        query = (
            "SELECT * FROM ingest.versions WHERE state <> ALL(%s) OR description_due_at IS NOT NULL"
        )
        evidence.versions = cursor.execute(query, [sorted(FINAL)]).fetchall()
        unfinished = "SELECT * FROM ingest.collection_deletions WHERE finished_at IS NULL"
        evidence.collection_deletions = cursor.execute(unfinished).fetchall()
    _read_queues(connection, evidence)


def _read_queues(connection: psycopg.Connection, evidence: Evidence) -> None:
    def count(table: str) -> int:
        [number] = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() or [0]
        return int(number)

    evidence.pending_removals = count("query.removed_versions")
    evidence.pending_updates = count("query.relabelled_documents")
    evidence.fetches = count("ingest.fetches")
    evidence.unfinished_profiles = count(
        "query.vector_stores JOIN query.profiles_in_use ON profile IN (live, beside)"
        " WHERE NOT complete"
    ) + count("query.vector_stores WHERE dropped")
    evidence.outbox = {service: count(f"{service}.outbox") for service in roles.SERVICES}


async def read_points(
    socket: Path, profile: str, tenants: Iterable[str], *, live_only: bool = False
) -> list[tuple[str, Place]]:
    """Every point of the tenants in the store of a profile, or those of live versions."""
    points = []
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        stub = VectorServiceStub(channel)
        for tenant in tenants:
            start = ""
            while True:
                request = ScrollRequest(
                    profile=profile,
                    tenant=tenant,
                    filter=Filter(live_only=live_only),
                    start=start,
                    limit=PAGE,
                )
                page = await stub.Scroll(
                    request,
                    timeout=30,
                    wait_for_ready=True,  # the process may be starting again
                )
                points += [
                    (e.point_id, Place(tenant, e.document, e.version, e.ordinal))
                    for e in page.entries
                ]
                start = page.next_id
                if not start:
                    break
    return points


@asynccontextmanager
async def jetstream(broker: Nats, name: str = PROVISIONER) -> AsyncIterator[JetStreamContext]:
    """JetStream as a user of the broker; the provisioning one may look at everything."""
    [user] = [each for each in broker.users if each.name == name]

    async def expected(_: Exception) -> None:
        """The broker may be down on purpose; the call itself says so."""

    client = await nats.connect(
        broker.url,
        user=user.name,
        password=user.password,
        inbox_prefix=topology.inbox_prefix(user.name).encode(),
        error_cb=expected,
    )
    try:
        yield client.jetstream(timeout=5)
    finally:
        await client.close()


async def read_durables(js: JetStreamContext, evidence: Evidence) -> None:
    """Fills in what consumers have not settled."""
    for durable in topology.durables():
        info = await js.consumer_info(durable.stream, durable.name)
        left = (info.num_pending or 0) + (info.num_ack_pending or 0)
        if left:
            evidence.unsettled[durable.name] = left


async def read_bus(js: JetStreamContext, evidence: Evidence) -> None:
    """Fills in what consumers have not settled, and the dead letters."""
    await read_durables(js, evidence)
    for stream in topology.streams():
        if stream.name.startswith("DEAD_"):
            state = (await js.stream_info(stream.name)).state
            for sequence in range(state.first_seq, state.last_seq + 1) if state.messages else ():
                message = await js.get_msg(stream.name, seq=sequence)
                evidence.dead_letters.append(dict(message.headers or {}))


def read_objects(folder: Path) -> list[str]:
    """Keys of every stored object."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".partial")
    )
