"""Calls to sibling services, questions to the broker, and facts of other replicas."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from typing_extensions import override

from aquifer.ingest.v1.document_events_pb2 import DocumentFailed, DocumentIndexed
from aquifer.query.v1.query_service_pb2 import (
    HideDocumentRequest,
    HideDocumentsRequest,
    InspectDocumentsRequest,
    InspectDocumentsResponse,
    InspectedDocument,
    LabelDocumentsRequest,
    LabelledDocument,
)
from aquifer.query.v1.query_service_pb2_grpc import QueryServiceStub
from chassis.base.errors import UnavailableError
from chassis.events import topology
from chassis.events.bus import Bus
from chassis.identity.tokens import TokenSource, act_for
from chassis.rpc.channel import open_channel
from ingest.labels import Labels
from ingest.usecases.ports import SHOWN_MAX, Notice, Queue, Search, Shown

HIDE_TIMEOUT_S: Final = 5.0
LABEL_TIMEOUT_S: Final = 10.0
INSPECT_TIMEOUT_S: Final = 30.0
FLUSH_TIMEOUT_S: Final = 2
FINAL_FACTS: Final = (DocumentIndexed.DESCRIPTOR.full_name, DocumentFailed.DESCRIPTOR.full_name)

log = logging.getLogger(__name__)


def open_query_channel(address: str, credentials: TokenSource) -> grpc.aio.Channel:
    """Opens a channel to query, for calls as this service for the tenant being served."""
    return open_channel(
        address,
        service="query",
        credentials=credentials,
        retried=(
            "aquifer.query.v1.QueryService/HideDocument",
            "aquifer.query.v1.QueryService/HideDocuments",
            "aquifer.query.v1.QueryService/LabelDocuments",
            "aquifer.query.v1.QueryService/InspectDocuments",
        ),
    )


class QueryGateway:
    """See `Hide`, `HideAll` and `LabelAll`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._query = QueryServiceStub(channel)

    async def __call__(self, tenant: str, document: str, version: int) -> None:
        """Hide a document; takes at most five seconds, less if the current call has less left."""
        request = HideDocumentRequest(document=document, version=version)
        try:
            with act_for(tenant):
                await self._query.HideDocument(request, timeout=HIDE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            # A bug of query is not the caller's fault; hiding is retried as after an outage.
            raise UnavailableError(
                "QUERY_FAILED", "query could not hide the document; hiding is retried"
            ) from error

    async def hide_all(self, tenant: str, versions: Sequence[tuple[str, int]]) -> None:
        """Hide many documents; takes at most five seconds, as for one."""
        documents = [HideDocumentRequest(document=name, version=last) for name, last in versions]
        request = HideDocumentsRequest(documents=documents)
        try:
            with act_for(tenant):
                await self._query.HideDocuments(request, timeout=HIDE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(
                "QUERY_FAILED", "query could not hide documents; hiding is retried"
            ) from error

    async def label_all(self, tenant: str, labelled: Sequence[tuple[str, Labels]]) -> None:
        """Set the labels of many documents; takes at most five seconds, as hiding."""
        documents = [
            LabelledDocument(document=name, labels=labels.names, order=labels.order)
            for name, labels in labelled
        ]
        request = LabelDocumentsRequest(documents=documents)
        try:
            with act_for(tenant):
                await self._query.LabelDocuments(request, timeout=LABEL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(
                "QUERY_FAILED", "query could not label documents; it is retried"
            ) from error


class QuerySearch(Search):
    """See `Search`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._query = QueryServiceStub(channel)

    @override
    async def find(self, tenant: str, documents: Sequence[str]) -> Mapping[str, Shown]:
        request = InspectDocumentsRequest(documents=documents, page_size=SHOWN_MAX)
        response = await self._inspect(tenant, request)
        return {one.document: _to_shown(one) for one in response.documents}

    @override
    async def list_page(self, tenant: str, collection: str, after: str) -> Sequence[Shown]:
        request = InspectDocumentsRequest(collection=collection, after=after, page_size=SHOWN_MAX)
        response = await self._inspect(tenant, request)
        return [_to_shown(one) for one in response.documents]

    async def _inspect(
        self, tenant: str, request: InspectDocumentsRequest
    ) -> InspectDocumentsResponse:
        try:
            with act_for(tenant):
                return await self._query.InspectDocuments(request, timeout=INSPECT_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(
                "QUERY_FAILED", "query could not list its documents; try again"
            ) from error


def _to_shown(one: InspectedDocument) -> Shown:
    return Shown(
        document=one.document,
        live_version=one.live_version,
        tombstone_version=one.tombstone_version,
        passages=one.passages,
        deleted_passages=one.deleted_passages,
        labels=tuple(one.labels),
    )


class BusQueue(Queue):
    """See `Queue`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    @override
    async def last_sequence(self, event: type[Message]) -> int:
        return await self._bus.last_sequence(event)

    @override
    async def is_handled(self, event: type[Message], service: str, sequence: int) -> bool:
        return await self._bus.is_handled(event, service, sequence)


class FactFeed:
    """See `ChangeFeed`: the facts of all replicas of ingest, on core NATS."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._subscriptions: list[Subscription] = []

    async def open(self, changed: Notice) -> bool:
        """Start the feed; if True, facts published from now on arrive, unless NATS drops them."""
        if not self._bus.is_connected:
            return False

        async def on_fact(message: Msg) -> None:
            document = unquote((message.headers or {}).get("ce-subject", ""))
            # Without a document it is the result of a refused upload event.
            if document:
                fact, _, tenant = message.subject.rpartition(".")
                changed(tenant, document, finished=fact in FINAL_FACTS)

        try:
            for event in topology.own_facts("ingest"):
                subject = topology.subject(event, "*")
                self._subscriptions.append(await self._bus.client.subscribe(subject, cb=on_fact))
            await self._bus.client.flush(FLUSH_TIMEOUT_S)
        except (NatsError, OSError) as error:
            log.warning("facts.not_subscribed", extra={"error": repr(error)})
            await self.close()
            return False
        return True

    async def close(self) -> None:
        """Stop the feed."""
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            with suppress(NatsError, OSError):  # without a connection there is no subscription
                await subscription.unsubscribe()
