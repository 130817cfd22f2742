"""Calls to sibling services, and questions to the broker."""

from typing import Final

import grpc
from google.protobuf.message import Message
from typing_extensions import override

from aquifer.query.v1.query_service_pb2 import HideDocumentRequest
from aquifer.query.v1.query_service_pb2_grpc import QueryServiceStub
from chassis.base.errors import UnavailableError
from chassis.events.bus import Bus
from chassis.identity.tokens import TokenSource
from chassis.rpc.channel import open_channel
from ingest.usecases.ports import Queue

HIDE_TIMEOUT_S: Final = 5.0


def query_channel(address: str, credentials: TokenSource) -> grpc.aio.Channel:
    """To query, as this service on behalf of the tenant of the call being served."""
    return open_channel(
        address,
        service="query",
        credentials=credentials,
        retried=("aquifer.query.v1.QueryService/HideDocument",),
    )


class QueryGateway:
    """See `Hide`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._query = QueryServiceStub(channel)

    async def __call__(self, document: str, version: int) -> None:
        """Within the time left to the call being served, five seconds at most."""
        request = HideDocumentRequest(document=document, version=version)
        try:
            await self._query.HideDocument(request, timeout=HIDE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            # A bug of query is none of the caller's; hiding is tried again like after an outage.
            raise UnavailableError("QUERY_FAILED", "query could not hide the document") from error


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
