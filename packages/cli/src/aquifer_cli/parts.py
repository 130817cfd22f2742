"""Sends a large document in parts: after a broken connection, or a new start, it continues."""

import asyncio
import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

import grpc

from aquifer.ingest.v1.document_pb2 import Document
from aquifer.ingest.v1.ingest_service_pb2 import (
    AppendUploadRequest,
    FinishUploadRequest,
    StartUploadRequest,
    UploadHeader,
    UploadPosition,
    UploadSession,
)
from aquifer_cli.client import Client
from aquifer_cli.errors import CommandError, from_rpc
from aquifer_cli.sources import Item

PIECE_BYTES = 256 * 1024
# Of one call; a slow connection has `APPEND_S` for them, and keeps what it sent until then.
CALL_BYTES = 16 << 20
APPEND_S = 120.0
FINISH_S = 120.0


async def send_in_parts(client: Client, item: Item, on_offset: Callable[[int], None]) -> Document:
    """The document as it was accepted.

    The service knows an unfinished upload by name and content: the same call continues it.

    Args:
        client: of the stack.
        item: to send.
        on_offset: called with the number of bytes sent so far; it is lower after a retry.

    Raises:
        CommandError: FILE_UNREADABLE, or the reason of the service.
    """
    try:
        with await asyncio.to_thread(item.open) as stream:
            header = UploadHeader()
            header.CopyFrom(item.header)
            header.ClearField("password")
            header.size_bytes, digest = await measure(stream)
            session: UploadSession = await client.call(
                client.ingest.StartUpload, StartUploadRequest(header=header, sha256=digest)
            )
            on_offset(session.offset)
            while session.offset < header.size_bytes:
                session = await _append(client, session, stream, on_offset)
    except OSError as error:
        raise CommandError("FILE_UNREADABLE", error.strerror or str(error)) from error
    request = FinishUploadRequest(upload_id=session.upload_id, password=item.header.password)
    document: Document = await client.call(client.ingest.FinishUpload, request, timeout_s=FINISH_S)
    return document


async def _append(
    client: Client, session: UploadSession, stream: BinaryIO, on_offset: Callable[[int], None]
) -> UploadSession:
    """Sends at most `CALL_BYTES` from the offset of the upload on."""
    offset, end = session.offset, session.offset + CALL_BYTES
    await asyncio.to_thread(stream.seek, offset)
    position = UploadPosition(upload_id=session.upload_id, offset=offset)
    try:
        call = client.ingest.AppendUpload(timeout=APPEND_S, metadata=await client.credentials())
        try:
            # If the call is refused early, awaiting it raises the reason.
            with suppress(asyncio.InvalidStateError):
                await call.write(AppendUploadRequest(position=position))
                while offset < end and not call.done():
                    piece = await asyncio.to_thread(stream.read, PIECE_BYTES)
                    if not piece:
                        break
                    await call.write(AppendUploadRequest(content=piece))
                    offset += len(piece)
                    on_offset(offset)
                await call.done_writing()
            appended: UploadSession = await call
        finally:
            call.cancel()
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from error
    if appended.offset <= session.offset:
        raise CommandError("FILE_UNREADABLE", "the file became shorter while it was sent")
    return appended


async def measure(stream: BinaryIO) -> tuple[int, str]:
    """Size and SHA-256 of a file, read in a thread that ends when this is cancelled."""
    stop = threading.Event()

    def read() -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0
        stream.seek(0)
        while not stop.is_set() and (piece := stream.read(PIECE_BYTES)):
            digest.update(piece)
            size += len(piece)
        return size, digest.hexdigest()

    try:
        return await asyncio.to_thread(read)
    finally:
        stop.set()
