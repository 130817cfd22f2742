"""What operators do after a run: they reconcile the stores, and decide on dead letters.

Some runs lose data of one store, as a restored backup would, and publish events that nobody can
read. The commands of operators must make that good; then nothing may differ.
"""

import random
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import grpc
import psycopg

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from aquifer.query.v1.passage_events_pb2 import VersionSearchable
from aquifer.query.vectors.v1.vector_service_pb2 import DeleteVersionRequest
from aquifer.query.vectors.v1.vector_service_pb2_grpc import VectorServiceStub
from aquifer_cli import dead_letters, reconcile
from aquifer_cli.client import Client
from aquifer_cli.errors import CommandError
from chassis.events import topology
from stack.nats import Nats
from tests.faults.evidence import jetstream

LiveVersion = tuple[str, str, int]
"""Tenant, document and number of a version."""

LOST_MAX = 8
UNREADABLE = (ChunksPrepared, ChunksEmbedded, VersionSearchable)


def draw_live(connection: psycopg.Connection, dice: random.Random) -> Sequence[LiveVersion]:
    """Some live versions."""
    live = connection.execute(
        "SELECT tenant_id, document, version FROM ingest.versions WHERE state = 'INDEXED'"
        " ORDER BY document"
    ).fetchall()
    return dice.sample(live, min(len(live), dice.randint(2, LOST_MAX)))


def lose_passages(connection: psycopg.Connection, versions: Sequence[LiveVersion]) -> None:
    """Removes the passages of these versions."""
    for version in versions:
        connection.execute(
            "DELETE FROM query.passages WHERE tenant_id = %s AND document = %s AND version = %s",
            version,
        )
    connection.commit()


async def lose_points(socket: Path, profile: str, versions: Sequence[LiveVersion]) -> None:
    """Removes the points of these versions from the store of a profile."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        stub = VectorServiceStub(channel)
        for tenant, document, version in versions:
            await stub.DeleteVersion(
                DeleteVersionRequest(
                    profile=profile, tenant=tenant, document=document, version=version
                ),
                timeout=30,
            )


async def publish_unreadable(broker: Nats, tenant: str) -> Sequence[str]:
    """Publishes one event that cannot be read to each service; returns their ids."""
    identifiers = []
    for event in UNREADABLE:
        identifier = str(uuid.uuid4())
        headers = {
            "ce-specversion": "1.0",
            "ce-id": identifier,
            "ce-source": "/faults",
            "ce-type": event.DESCRIPTOR.full_name,
            "Content-Type": "application/protobuf",
        }
        async with jetstream(broker, topology.publisher(event)) as js:
            await js.publish(topology.subject(event, tenant), b"\xff\xff", headers=headers)
        identifiers.append(identifier)
    return identifiers


async def find_differences(client: Client) -> list[str]:
    """Compares all stores; what differs, a line each."""
    report = reconcile.Report(dry_run=True)
    failed = await reconcile.run(client, report, "", lambda *_: None)
    return [*_unreached(failed), *(_line(kind, found) for kind, found in report.found.items())]


async def repair_losses(client: Client, lost: int) -> list[str]:
    """Repairs the stores after so many losses; what is left, a line each."""
    report = reconcile.Report(dry_run=False)
    failed = await reconcile.run(client, report, "", lambda *_: None)
    found = sum(each.count for each in report.found.values())
    return [
        *_unreached(failed),
        *([f"not found: {lost} versions lost data, {found} differences"] if found < lost else []),
        *(_line(kind, each) for kind, each in report.found.items() if each.count > each.repaired),
    ]


def _unreached(failed: Mapping[str, CommandError]) -> list[str]:
    return [f"not reconciled: {service}: {error}" for service, error in failed.items()]


def _line(kind: reconcile.Kind, found: reconcile.Found) -> str:
    service, difference = kind
    examples = ", ".join(found.examples)
    return f"differs: {service}: {found.count} {reconcile.kind_name(difference)}: {examples}"


async def discard_unreadable(client: Client, identifiers: Sequence[str]) -> list[str]:
    """Replays these dead letters, which must fail, and discards them; returns what went wrong."""
    found: dict[str, dead_letters.Ref] = {}

    def note(ref: dead_letters.Ref, letter: dead_letters.DeadLetter) -> bool:
        if letter.event_id in identifiers:
            found[letter.event_id] = ref
        return True

    failed = await dead_letters.list_letters(client, dead_letters.Which(), note)
    broken = [f"dead letters not listed: {service}" for service in failed]
    broken += [f"no dead letter of event {one}" for one in identifiers if one not in found]
    for ref in found.values():
        broken += [line async for line in _decide(client, ref)]
    return broken


async def _decide(client: Client, ref: dead_letters.Ref) -> AsyncIterator[str]:
    try:
        await dead_letters.replay(client, ref)
    except CommandError as error:
        if error.reason in {"UNKNOWN", "INTERNAL"}:
            yield f"replay of {ref} failed without a reason: {error}"
    else:
        yield f"replay of {ref} succeeded though it cannot be read"
    await dead_letters.discard(client, ref)
    try:
        await dead_letters.read(client, ref)
    except CommandError as error:
        if error.reason != "DEAD_LETTER_UNKNOWN":
            yield f"{ref} is not known to be discarded: {error}"
    else:
        yield f"{ref} was discarded and is still there"
