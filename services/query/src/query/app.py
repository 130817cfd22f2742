"""Connects use cases with their adapters; the only module that knows both."""

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import grpc
from typing_extensions import override

from aquifer.ops.v1.profile_service_pb2_grpc import add_ProfileServiceServicer_to_server
from aquifer.ops.v1.reconcile_service_pb2_grpc import add_ReconcileServiceServicer_to_server
from aquifer.query.v1.conversation_service_pb2_grpc import (
    add_ConversationServiceServicer_to_server,
)
from aquifer.query.v1.prompt_service_pb2_grpc import add_PromptServiceServicer_to_server
from aquifer.query.v1.query_service_pb2_grpc import add_QueryServiceServicer_to_server
from chassis.base.postgres import Database, open_database
from chassis.events.inbox import forget_old
from chassis.events.outbox import Outbox
from chassis.events.work import GuardedTransactions
from chassis.process.process import Process
from chassis.process.reconcile import ReconcileRpc
from chassis.rpc.channel import open_channel
from query.checks.by_model import Judge
from query.checks.settings import open_guardrails
from query.conversation_rpc import ConversationRpc
from query.gateways import (
    RETRIED,
    InferenceCatalogue,
    InferenceEmbedder,
    InferenceGenerator,
    InferenceJudge,
    InferenceReranker,
    InferenceRewriter,
    InferenceTokenCounter,
)
from query.loops import make_loop
from query.profile import Profile
from query.profile_rpc import ProfileRpc
from query.prompt_rpc import PromptRpc
from query.question_vectors import QuestionVectors
from query.retrieval.vector_store import Quantization, VectorStore
from query.rpc import QueryRpc
from query.settings import Settings
from query.store.answers import PostgresAnswers
from query.store.conversations import PostgresConversations
from query.store.exchanges import PostgresExchanges
from query.store.facets import PostgresFacets
from query.store.history import PostgresHistory
from query.store.ledger import PostgresLedger
from query.store.prompts import PostgresPrompts
from query.store.records import PostgresProfiles, PostgresStoreRecords
from query.store.work import make_begin
from query.subscribers import UseCases, events
from query.tenant_removal import make_removal
from query.usecases.ask import Ask
from query.usecases.compare_profiles import CompareProfiles
from query.usecases.complete_question import CompleteQuestion, Rewriter
from query.usecases.documents import (
    DescribeVersions,
    GiveUpVersion,
    HideDocument,
    HideDocuments,
    PurgeDocument,
    RemovePoints,
)
from query.usecases.expire_exchanges import ExpireExchanges
from query.usecases.export_answers import ExportAnswers
from query.usecases.find_passages import FindPassages
from query.usecases.generator import Generator
from query.usecases.guardrails import Guardrails
from query.usecases.index_chunks import IndexChunks, RejectChunks
from query.usecases.indexes import Indexes, Opening
from query.usecases.keep_history import KeepHistory
from query.usecases.label_documents import LabelDocuments
from query.usecases.ports import Begin, Catalogue, Embedder, Ledger
from query.usecases.profiles import BuildProfile, DropProfile, FlipProfile, ListProfiles
from query.usecases.rebuild_vectors import KeepIndexes
from query.usecases.reconcile_points import ReconcilePoints
from query.usecases.remove_dropped import RemoveDropped
from query.usecases.reranker import Reranker
from query.usecases.send_message import SendMessage
from query.usecases.token_budget import TokenCounter
from query.usecases.update_points import UpdatePoints
from query.vectors import engine_client

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient

log = logging.getLogger(__name__)

SERVICE: Final = "query"
REMOVE_EVERY_S: Final = 2.0
UPDATE_EVERY_S: Final = 1.0
FORGET_EVERY_S: Final = 600.0
EXPIRE_EVERY_S: Final = 600.0
HISTORY_EVERY_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """The implementations of the ports."""

    database: Database
    opening: Opening
    catalogue: Catalogue
    generator: Generator
    reranker: Reranker
    judge: Judge
    rewriter: Rewriter
    tokens: TokenCounter


async def build(process: Process, settings: Settings) -> None:
    """Opens the dependencies of the service and attaches it to the process."""
    wire(process, await _open_adapters(process, settings), settings)


async def _open_adapters(process: Process, settings: Settings) -> Adapters:
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
        opening=await _open_stores(process.stack, settings, inference),
        catalogue=InferenceCatalogue(inference),
        generator=InferenceGenerator(inference),
        reranker=InferenceReranker(inference),
        judge=InferenceJudge(inference),
        rewriter=InferenceRewriter(inference),
        tokens=InferenceTokenCounter(inference),
    )


async def _open_stores(
    stack: AsyncExitStack, settings: Settings, inference: grpc.aio.Channel
) -> Opening:
    if settings.vectors.startswith("unix:"):
        channel = await stack.enter_async_context(engine_client.open_channel(settings.vectors))
        return EmbeddedOpening(inference, channel, settings.question_vectors)
    # Imported only here, because the import takes a second of processor time.
    from query.vectors import qdrant  # noqa: PLC0415

    key = settings.vectors_api_key
    client = qdrant.open_client(
        settings.vectors,
        grpc_port=settings.vectors_grpc_port,
        api_key=key.get_secret_value() if key else None,
    )
    stack.push_async_callback(client.close)
    return ServerOpening(
        inference, client, settings.question_vectors, settings.vectors_quantization
    )


@dataclass(frozen=True, slots=True)
class EmbeddedOpening(Opening):
    """Opens stores of the vector process, and embedders of inference."""

    inference: grpc.aio.Channel
    vectors: grpc.aio.Channel
    question_vectors: int

    @override
    def open_vectors(self, profile: Profile) -> VectorStore:
        return engine_client.EngineVectors(
            self.vectors, profile=profile.name, dimensions=profile.dimensions
        )

    @override
    def open_embedder(self, profile: Profile) -> Embedder:
        remembered = QuestionVectors(self.question_vectors)
        return InferenceEmbedder(self.inference, profile, remembered)


@dataclass(frozen=True, slots=True)
class ServerOpening(Opening):
    """Opens collections of a Qdrant server, and embedders of inference."""

    inference: grpc.aio.Channel
    client: "AsyncQdrantClient"
    question_vectors: int
    quantization: Quantization

    @override
    def open_vectors(self, profile: Profile) -> VectorStore:
        from query.vectors import qdrant  # noqa: PLC0415

        return qdrant.QdrantVectors(
            self.client,
            profile=profile.name,
            dimensions=profile.dimensions,
            new_id=uuid4,
            quantization=self.quantization,
        )

    @override
    def open_embedder(self, profile: Profile) -> Embedder:
        remembered = QuestionVectors(self.question_vectors)
        return InferenceEmbedder(self.inference, profile, remembered)


def wire(process: Process, adapters: Adapters, settings: Settings) -> None:
    """Attaches the RPCs, subscribers, loops and probes of the service to the process."""
    outbox = Outbox(adapters.database, process.bus, SERVICE)
    transactions = GuardedTransactions(adapters.database, outbox)
    begin = make_begin(transactions)
    ledger = PostgresLedger(adapters.database)
    records = PostgresStoreRecords(adapters.database)
    profiles = PostgresProfiles(adapters.database, _make_profile(settings))
    indexes = Indexes(profiles=profiles, records=records, opening=adapters.opening)
    removal = make_removal(transactions, indexes, process.dead_letters)
    find = FindPassages(indexes, ledger, adapters.reranker)
    points = UpdatePoints(begin, ledger, indexes)
    process.consume(
        events,
        app=UseCases(
            index=IndexChunks(begin, ledger, indexes),
            reject=RejectChunks(begin),
            describe=DescribeVersions(begin),
            give_up=GiveUpVersion(begin),
            purge=PurgeDocument(begin, indexes, process.dead_letters),
            tenant_removal=removal,
        ),
    )
    guardrails = open_guardrails(settings.guardrails, adapters.judge)
    complete = CompleteQuestion(rewriter=adapters.rewriter, model=settings.rewrite_model)
    _add_questions(process, adapters, transactions, find, points, guardrails, complete)
    keep = KeepIndexes(
        begin=begin,
        ledger=ledger,
        records=records,
        indexes=indexes,
        repair_s=settings.repair_s,
        clock=time.monotonic,
    )
    remove = RemoveDropped(begin=begin, ledger=ledger, records=records, indexes=indexes)
    reconcile = ReconcileRpc([ReconcilePoints(begin=begin, ledger=ledger, indexes=indexes)])
    add_ReconcileServiceServicer_to_server(reconcile, process.server)
    profile_rpc = _make_profile_rpc(indexes, ledger, adapters.catalogue, remove)
    add_ProfileServiceServicer_to_server(profile_rpc, process.server)
    process.add_loop(outbox.relay)
    process.add_loop(removal.run)
    for place, wake in enumerate(indexes.wakes):
        process.add_loop(make_loop(settings.reconcile_s, _make_keep(keep, place), wake=wake))
    process.add_loop(make_loop(REMOVE_EVERY_S, RemovePoints(ledger, indexes).run))
    process.add_loop(make_loop(UPDATE_EVERY_S, points.run))
    process.add_loop(make_loop(settings.reconcile_s, remove.run))
    _add_removal_by_age(process, adapters.database, begin, settings)
    _tell_state(process, adapters.database, ledger, indexes)


def _add_removal_by_age(
    process: Process, database: Database, begin: Begin, settings: Settings
) -> None:
    """Loops that remove what is too old."""
    if settings.answer_retention_days:
        expire = ExpireExchanges(
            exchanges=PostgresExchanges(database),
            retention=timedelta(days=settings.answer_retention_days),
            clock=partial(datetime.now, UTC),
        )
        process.add_loop(make_loop(EXPIRE_EVERY_S, expire.run))
    history = KeepHistory(
        begin=begin,
        history=PostgresHistory(database),
        window=timedelta(days=settings.history_days),
    )
    process.add_loop(make_loop(HISTORY_EVERY_S, history.run))
    process.add_loop(make_loop(FORGET_EVERY_S, _make_forget_inbox(database, settings)))


def _tell_state(
    process: Process, database: Database, ledger: PostgresLedger, indexes: Indexes
) -> None:
    """What the process tells of itself: its backlog, its progress, and whether it is ready."""
    process.stages = ledger.count_backlog
    process.progress = lambda: indexes.progress
    process.add_probe(database.find_problem)
    process.add_probe(_make_vectors_probe(indexes))


def _add_questions(
    process: Process,
    adapters: Adapters,
    transactions: GuardedTransactions,
    find: FindPassages,
    points: UpdatePoints,
    guardrails: Guardrails,
    complete: CompleteQuestion,
) -> None:
    """Attaches the services that people ask, and what they ask with."""
    begin = make_begin(transactions)
    answers, prompts = PostgresAnswers(transactions), PostgresPrompts(transactions)
    ask = Ask(
        find=find,
        generator=adapters.generator,
        answers=answers,
        prompts=prompts,
        guardrails=guardrails,
        tokens=adapters.tokens,
        new_id=uuid4,
        clock=partial(datetime.now, UTC),
    )
    rpc = QueryRpc(
        find=find,
        ask=ask,
        answers=answers,
        export=ExportAnswers(PostgresExchanges(adapters.database)),
        facets=PostgresFacets(adapters.database),
        hide=HideDocument(begin),
        hide_many=HideDocuments(begin),
        label=LabelDocuments(begin, points),
        ledger=points.ledger,
    )
    add_QueryServiceServicer_to_server(rpc, process.server)
    add_PromptServiceServicer_to_server(PromptRpc(prompts=prompts), process.server)
    conversations = PostgresConversations(transactions)
    send = SendMessage(conversations, answers, ask, complete)
    conversation_rpc = ConversationRpc(conversations=conversations, send=send)
    add_ConversationServiceServicer_to_server(conversation_rpc, process.server)


def _make_profile_rpc(
    indexes: Indexes, ledger: Ledger, catalogue: Catalogue, remove: RemoveDropped
) -> ProfileRpc:
    profiles, records = indexes.profiles, indexes.records
    return ProfileRpc(
        listing=ListProfiles(indexes=indexes, records=records, ledger=ledger, catalogue=catalogue),
        build=BuildProfile(
            indexes=indexes, records=records, profiles=profiles, catalogue=catalogue
        ),
        compare=CompareProfiles(indexes=indexes, profiles=profiles, ledger=ledger),
        flip=FlipProfile(indexes=indexes, profiles=profiles),
        drop=DropProfile(profiles=profiles, remove=remove),
    )


def _make_profile(settings: Settings) -> Profile:
    return Profile(name=settings.embedding_profile, dimensions=settings.embedding_dimensions)


def _make_keep(keep: KeepIndexes, place: int) -> Callable[[], Awaitable[object]]:
    async def keep_index() -> None:
        await keep.run(place)

    return keep_index


def _make_forget_inbox(database: Database, settings: Settings) -> Callable[[], Awaitable[object]]:
    async def forget_inbox() -> None:
        await forget_old(database, settings.inbox_retention_s)

    return forget_inbox


def _make_vectors_probe(indexes: Indexes) -> Callable[[], Awaitable[str]]:
    async def probe() -> str:
        return indexes.problem

    return probe
