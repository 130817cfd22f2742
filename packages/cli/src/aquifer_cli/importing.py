"""Many documents over one ImportDocuments call, each answered on its own."""

import asyncio
from collections import deque
from typing import Any

import grpc

from aquifer.ingest.v1.document_pb2 import Document
from aquifer.ingest.v1.ingest_service_pb2 import (
    ImportDocumentsRequest,
    ImportDocumentsResponse,
    ImportRefusal,
    UploadHeader,
)
from aquifer_cli.client import Client
from aquifer_cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, CommandError, from_rpc

CALL_S = 600.0
UNAVAILABLE: int = grpc.StatusCode.UNAVAILABLE.value[0]


class Importing:
    """One call that many uploads share; one that ends is made anew by the next upload."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._call: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: deque[asyncio.Future[Document]] = deque()
        self._writing = asyncio.Lock()

    async def send(self, header: UploadHeader, content: bytes) -> Document:
        """The document as it was accepted: name, version, state and trace.

        Raises:
            CommandError: the reason of the service; what ends the call fails all that wait for it,
                and may be sent again.
        """
        answer: asyncio.Future[Document] = asyncio.get_running_loop().create_future()
        async with self._writing:
            try:
                call = await self._open()
                self._waiting.append(answer)
                await call.write(ImportDocumentsRequest(header=header, content=content))
            except grpc.aio.AioRpcError as error:
                self._end(from_rpc(error))
            except asyncio.InvalidStateError:
                pass  # the call has ended; whoever reads from it tells why
        return await answer

    async def close(self) -> None:
        """Ends the call."""
        if self._call is not None:
            self._call.cancel()
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def _open(self) -> Any:
        if self._call is None:
            self._call = self._client.ingest.ImportDocuments(
                timeout=CALL_S, metadata=await self._client.credentials()
            )
            self._reading = asyncio.get_running_loop().create_task(self._read(self._call))
        return self._call

    async def _read(self, call: Any) -> None:
        error = CommandError("CALL_CUT", "the service ended the call", exit_code=EXIT_FAILED)
        try:
            async for response in call:
                _resolve(self._waiting.popleft(), response)
        except grpc.aio.AioRpcError as failure:
            error = from_rpc(failure)
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
        self._end(error)

    def _end(self, error: CommandError) -> None:
        """Fails everything that waits; the next upload opens another call."""
        self._call = None
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(error)


def _resolve(answer: asyncio.Future[Document], response: ImportDocumentsResponse) -> None:
    if answer.done():
        return
    if response.WhichOneof("outcome") == "refused":
        answer.set_exception(_error(response.refused))
        return
    accepted = response.accepted
    answer.set_result(
        Document(
            name=response.document,
            version=accepted.version,
            state=accepted.state,
            trace_id=accepted.trace_id,
        )
    )


def _error(refused: ImportRefusal) -> CommandError:
    unavailable = refused.code == UNAVAILABLE
    return CommandError(
        refused.reason,
        refused.detail,
        exit_code=EXIT_UNAVAILABLE if unavailable else EXIT_FAILED,
        retry_s=refused.retry_after_s,
    )
