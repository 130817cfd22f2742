"""Connects use cases with their adapters; the only module that knows both."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from aquifer.ops.v1.reconcile_service_pb2_grpc import add_ReconcileServiceServicer_to_server
from aquifer.query.v1.query_service_pb2_grpc import add_QueryServiceServicer_to_server
from chassis.base.errors import ServiceError
from chassis.base.postgres import Database, open_database
from chassis.events.inbox import forget_old
from chassis.events.outbox import Outbox
from chassis.events.work import Transactions
from chassis.process.process import Loop, Process
from chassis.process.reconcile import ReconcileRpc
from chassis.rpc.channel import open_channel
from query.domain import Profile
from query.gateways import RETRIED, InferenceEmbedder, InferenceGenerator
from query.retrieval.vector_store import VectorStore
from query.rpc import QueryRpc
from query.settings import Settings
from query.store.answers import PostgresAnswers
from query.store.ledger import PostgresLedger
from query.store.records import PostgresStoreRecords
from query.store.work import make_begin
from query.subscribers import UseCases, events
from query.usecases.ask import Ask
from query.usecases.compare_points import RestorePoints
from query.usecases.documents import (
    DescribeVersions,
    GiveUpVersion,
    HideDocument,
    HideDocuments,
    PurgeDocument,
    RemovePoints,
)
from query.usecases.find_passages import FindPassages, Serving
from query.usecases.index_chunks import IndexChunks, RejectChunks
from query.usecases.ports import Embedder, Generator
from query.usecases.rebuild_vectors import RebuildVectors
from query.usecases.reconcile_points import ReconcilePoints
from query.vectors import engine_client

log = logging.getLogger(__name__)

SERVICE: Final = "query"
PAUSE_MIN_S: Final = 0.5
REMOVE_EVERY_S: Final = 2.0
FORGET_EVERY_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """The implementations of the ports."""

    database: Database
    vectors: VectorStore
    embedder: Embedder
    generator: Generator


async def build(process: Process, settings: Settings) -> None:
    """Opens the dependencies of the service and attaches it to the process."""
    wire(process, await _open_adapters(process, settings), settings)


async def _open_adapters(process: Process, settings: Settings) -> Adapters:
    profile = _make_profile(settings)
    database = await process.stack.enter_async_context(
        open_database(
            settings.postgres_dsn.get_secret_value(), SERVICE, settings.postgres_pool_size
        )
    )
    inference = await process.stack.enter_async_context(
        open_channel(
            settings.inference_address,
            service="inference",
            credentials=process.authority.credentials,
            retried=RETRIED,
        )
    )
    return Adapters(
        database=database,
        vectors=await _open_vectors(process.stack, settings, profile),
        embedder=InferenceEmbedder(inference, profile),
        generator=InferenceGenerator(inference),
    )


async def _open_vectors(stack: AsyncExitStack, settings: Settings, profile: Profile) -> VectorStore:
    if settings.vectors.startswith("unix:"):
        channel = await stack.enter_async_context(engine_client.open_channel(settings.vectors))
        return engine_client.EngineVectors(
            channel, profile=profile.name, dimensions=profile.dimensions
        )
    # Imported only here, because the import takes a second of processor time.
    from query.vectors import qdrant  # noqa: PLC0415

    key = settings.vectors_api_key
    client = qdrant.open_client(
        settings.vectors,
        grpc_port=settings.vectors_grpc_port,
        api_key=key.get_secret_value() if key else None,
    )
    stack.push_async_callback(client.close)
    return qdrant.QdrantVectors(
        client, profile=profile.name, dimensions=profile.dimensions, new_id=uuid4
    )


def wire(process: Process, adapters: Adapters, settings: Settings) -> None:
    """Attaches the RPCs, subscribers, loops and probes of the service to the process."""
    profile, serving = _make_profile(settings), Serving()
    outbox = Outbox(adapters.database, process.bus, SERVICE)
    transactions = Transactions(adapters.database, outbox)
    begin = make_begin(transactions)
    ledger = PostgresLedger(adapters.database)
    answers = PostgresAnswers(transactions)
    find = FindPassages(adapters.embedder, adapters.vectors, ledger, serving, profile.name)
    process.consume(
        events,
        app=UseCases(
            index=IndexChunks(profile, begin, ledger, adapters.vectors),
            reject=RejectChunks(begin),
            describe=DescribeVersions(begin),
            give_up=GiveUpVersion(begin),
            purge=PurgeDocument(begin, adapters.vectors, process.dead_letters),
        ),
    )
    rpc = QueryRpc(
        find=find,
        ask=Ask(find, adapters.generator, answers, uuid4),
        answers=answers,
        hide=HideDocument(begin),
        hide_many=HideDocuments(begin),
        ledger=ledger,
    )
    add_QueryServiceServicer_to_server(rpc, process.server)
    restore = RestorePoints(
        profile=profile,
        begin=begin,
        ledger=ledger,
        vectors=adapters.vectors,
        embedder=adapters.embedder,
    )
    points = ReconcilePoints(
        begin=begin, ledger=ledger, vectors=adapters.vectors, restore=restore, serving=serving
    )
    add_ReconcileServiceServicer_to_server(ReconcileRpc([points]), process.server)
    rebuild = RebuildVectors(
        profile=profile,
        restore=restore,
        ledger=ledger,
        records=PostgresStoreRecords(adapters.database),
        vectors=adapters.vectors,
        serving=serving,
        repair_s=settings.repair_s,
        clock=time.monotonic,
    )
    process.add_loop(outbox.relay)
    process.add_loop(_make_loop(settings.reconcile_s, rebuild.run, wake=serving.missed))
    process.add_loop(_make_loop(REMOVE_EVERY_S, RemovePoints(ledger, adapters.vectors).run))
    process.add_loop(_make_loop(FORGET_EVERY_S, _make_forget_inbox(adapters.database, settings)))
    process.stages = ledger.count_backlog
    process.progress = lambda: serving.progress
    process.add_probe(adapters.database.find_problem)
    process.add_probe(_make_vectors_probe(serving))


def _make_profile(settings: Settings) -> Profile:
    return Profile(name=settings.embedding_profile, dimensions=settings.embedding_dimensions)


def _make_loop(
    pause_s: float, work: Callable[[], Awaitable[object]], *, wake: asyncio.Event | None = None
) -> Loop:
    """Makes a loop that repeats work, also after a round in which a dependency was unavailable.

    `wake` ends a pause, but not before `PAUSE_MIN_S`.
    """
    awake = wake or asyncio.Event()

    async def loop() -> None:
        while True:
            awake.clear()
            try:
                await work()
            except ServiceError as error:
                log.warning(
                    "work.waiting",
                    extra={
                        "work": getattr(work, "__name__", type(work).__name__),
                        "reason": error.reason,
                    },
                )
            await asyncio.sleep(min(pause_s, PAUSE_MIN_S))
            with suppress(TimeoutError):
                await asyncio.wait_for(awake.wait(), pause_s)

    return loop


def _make_forget_inbox(database: Database, settings: Settings) -> Callable[[], Awaitable[object]]:
    async def forget_inbox() -> None:
        await forget_old(database, settings.inbox_retention_s)

    return forget_inbox


def _make_vectors_probe(serving: Serving) -> Callable[[], Awaitable[str]]:
    async def probe() -> str:
        return serving.problem

    return probe
