"""Sends many documents over one ImportDocuments call; each gets its own response."""

import asyncio
from collections import deque
from contextlib import suppress
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
    """A call shared by many uploads; after its end the next upload starts a new one."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._open: _Call | None = None
        self._writing = asyncio.Lock()

    async def send(self, header: UploadHeader, content: bytes) -> Document:
        """The accepted document: name, version, state, trace, same content, and known notes.

        Raises:
            CommandError: the reason of the service. If the call ends, all waiting uploads fail and
                can be sent again.
        """
        async with self._writing:
            if self._open is None or self._open.ended:
                self._open = await self._begin()
            answer = await self._open.write(ImportDocumentsRequest(header=header, content=content))
        return await answer

    async def _begin(self) -> "_Call":
        try:
            credentials = await self._client.credentials()
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from error
        return _Call(self._client.ingest.ImportDocuments(timeout=CALL_S, metadata=credentials))

    async def close(self) -> None:
        """Ends the call."""
        if self._open is not None:
            await self._open.close()


class _Call:
    """One call, and the uploads that wait for its responses, in order."""

    def __init__(self, call: Any) -> None:
        self.ended = False
        self._call = call
        self._waiting: deque[asyncio.Future[Document]] = deque()
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def write(self, request: ImportDocumentsRequest) -> "asyncio.Future[Document]":
        answer: asyncio.Future[Document] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        # Writing to a call that has ended fails; `_read` reports the reason.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(request)
        return answer

    async def close(self) -> None:
        self._call.cancel()
        await asyncio.wait([self._reading])

    async def _read(self) -> None:
        """Returns responses to the uploads until the call ends, then the error to the rest."""
        error = CommandError("CALL_CUT", "the service ended the call")
        try:
            async for response in self._call:
                _resolve(self._waiting.popleft(), response)
        except grpc.aio.AioRpcError as failure:
            error = from_rpc(failure)
        except asyncio.CancelledError:
            if not self._call.cancelled():
                raise
        finally:
            self.ended = True
            for answer in self._waiting:
                if not answer.done():
                    answer.set_exception(error)
                    # Marks it as retrieved: after Ctrl-C nothing awaits it.
                    answer.exception()


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
            notes=accepted.notes,
            same_content=accepted.same_content,
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
