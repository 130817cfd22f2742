"""Opens the adapters of ingest and attaches the service to its process."""

from aquifer.ingest.v1.ingest_service_pb2_grpc import add_IngestServiceServicer_to_server
from aquifer.ops.v1.reconcile_service_pb2_grpc import add_ReconcileServiceServicer_to_server
from chassis.base.postgres import open_database
from chassis.events.outbox import Outbox
from chassis.events.work import GuardedTransactions, Publications
from chassis.process.process import Process
from chassis.process.reconcile import ReconcileRpc
from ingest.chunking import ChunkSettings
from ingest.cutting import CutSmallText, ParseAndCut
from ingest.gateways import (
    BusQueue,
    FactFeed,
    QueryGateway,
    QuerySearch,
    open_query_channel,
)
from ingest.objects.opening import open_objects
from ingest.parsing.jail.jailed import ParserLimits
from ingest.parsing.ocr.data import open_ocr_data
from ingest.parsing.parser import Parser
from ingest.passwords import AesPasswords
from ingest.reconciler import Reconciler
from ingest.references.reader import open_references
from ingest.settings import Settings
from ingest.stages import list_stages
from ingest.store.inventory import PostgresInventory
from ingest.store.sweeper import PostgresSweeper
from ingest.store.work import make_begin
from ingest.subscribers import events
from ingest.tenant_removal import make_removal
from ingest.wiring import Adapters, Wired, wire

SERVICE = "ingest"


async def build(process: Process, settings: Settings) -> None:
    """Open the dependencies of ingest and attach the service to the process."""
    opened = process.stack.enter_async_context
    database = await opened(
        open_database(
            settings.postgres_dsn.get_secret_value(), SERVICE, settings.postgres_pool_size
        )
    )
    weights = {tenant: one.weight for tenant, one in settings.tenant_limits.items()}
    outbox = Outbox(database, process.bus, SERVICE, weights)
    transactions = GuardedTransactions(database, outbox)
    objects = await open_objects(settings.objects_url)
    parser = await opened(
        Parser(
            _limit_parsing(settings),
            open_ocr_data(str(settings.ocr_data_dir), settings.ocr_languages),
        )
    )
    channel = await opened(
        open_query_channel(settings.query_address, process.authority.credentials)
    )
    sweeper = PostgresSweeper(database)
    chunks = ChunkSettings()
    gateway = QueryGateway(channel)
    removal = make_removal(transactions, objects, process.dead_letters)
    wired = wire(
        Adapters(
            begin=make_begin(transactions),
            sweeper=sweeper,
            objects=objects,
            references=open_references(
                settings.drops_dir, settings.reference_origins, settings.reference_private_hosts
            ),
            cut_text=CutSmallText(chunks),
            parse=ParseAndCut(parser, chunks),
            passwords=AesPasswords(settings.password_key.get_secret_value()),
            hide=gateway,
            hide_all=gateway.hide_all,
            label_all=gateway.label_all,
            queue=BusQueue(process.bus),
            changes=FactFeed(process.bus),
            dead_letters=process.dead_letters,
            inventory=PostgresInventory(database),
            search=QuerySearch(channel),
            publish=Publications(process.bus).begin,
            tenant_removal=removal,
        ),
        settings,
    )
    _attach(process, wired, settings)
    process.add_loop(outbox.relay)
    process.add_loop(removal.run)
    process.add_probe(database.find_problem)
    process.stages = lambda: list_stages(sweeper)


def _attach(process: Process, wired: Wired, settings: Settings) -> None:
    add_IngestServiceServicer_to_server(wired.rpc, process.server)
    add_ReconcileServiceServicer_to_server(ReconcileRpc(wired.checks), process.server)
    process.consume(events, app=wired.use_cases)
    reconciler = Reconciler(
        wired.maintenance, connected=lambda: process.bus.is_connected, settings=settings
    )
    process.bus.on_reconnected.append(wired.watchers.notice_all)
    process.add_loop(wired.watchers.run)
    process.add_loop(wired.fetch.run)
    process.add_loop(reconciler.reconcile)
    process.add_loop(reconciler.sweep)
    process.add_loop(reconciler.delete_collections)
    process.add_loop(reconciler.send_labels)


def _limit_parsing(settings: Settings) -> ParserLimits:
    return ParserLimits(
        children=settings.parser_children,
        document_bytes=settings.upload_max_bytes,
        text_bytes=settings.text_max_bytes,
    )
