"""`aquifer upload` and `aquifer import`: documents in, side by side, each with its own outcome."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from aquifer.ingest.v1.document_pb2 import Document, DocumentState
from aquifer.ingest.v1.ingest_service_pb2 import (
    GetDocumentRequest,
    UploadDocumentRequest,
    UploadHeader,
    WatchDocumentRequest,
)
from aquifer_cli import names
from aquifer_cli.client import Client
from aquifer_cli.errors import CommandError, from_rpc

PIECE_BYTES = 256 * 1024
SIDE_BY_SIDE = 16
UPLOAD_S = 120.0
WAIT_S = 600.0
RETRIES = 6
RETRIED = {"BACKLOG_FULL", "UNAVAILABLE", "DATABASE_UNAVAILABLE", "CALLS_OPEN"}
FINAL = {
    DocumentState.DOCUMENT_STATE_INDEXED,
    DocumentState.DOCUMENT_STATE_FAILED,
    DocumentState.DOCUMENT_STATE_DELETED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One document to send: where it came from, its header, and how to get its bytes."""

    path: str
    header: UploadHeader
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one item."""

    path: str
    document: str
    version: int = 0
    state: str = "REFUSED"
    reason: str = ""
    detail: str = ""

    @property
    def failed(self) -> bool:
        """True when the document will not become searchable."""
        return self.state in {"REFUSED", "FAILED"}

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "path": self.path,
            "document": self.document,
            "version": self.version,
            "state": self.state,
            "reason": self.reason,
        }


def state_name(state: DocumentState.ValueType) -> str:
    """`INDEXED` for DOCUMENT_STATE_INDEXED."""
    return DocumentState.Name(state).removeprefix("DOCUMENT_STATE_")


def files(paths: Sequence[Path], collection: str) -> Iterator[Item]:
    """Every file named and every file below a folder named, hidden ones left out.

    Raises:
        CommandError: PATH_UNKNOWN.
    """
    for path in paths:
        if not path.exists():
            raise CommandError("PATH_UNKNOWN", f"{path} does not exist")
        found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in found:
            inside = file.relative_to(path) if path.is_dir() else Path(file.name)
            if not any(part.startswith(".") for part in inside.parts):
                document = names.slug("-".join(inside.parts))
                yield Item(
                    path=str(file),
                    header=UploadHeader(
                        document=names.document_name(collection, document),
                        file_name=file.name[:255],
                    ),
                    read=file.read_bytes,
                )


def lines(file: Path, collection: str) -> list[Item]:
    """One document a line: `_id`, `title`, `text`, optional `metadata` (an object).

    Raises:
        CommandError: LINE_UNREADABLE, naming the line; nothing has been sent then.
    """
    items = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            items.append(_line(f"{file}:{number}", line, collection))
    return items


def _line(where: str, line: str, collection: str) -> Item:
    try:
        row = json.loads(line)
        identifier, title, text = str(row["_id"]), str(row.get("title") or ""), str(row["text"])
        metadata = {str(k): str(v) for k, v in (row.get("metadata") or {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(
            "LINE_UNREADABLE",
            f"{where}: {type(error).__name__}: {error}",
            hint='each line is an object with "_id", "text" and optionally "title", "metadata"',
        ) from error
    content = (f"{title}\n\n{text}" if title and not text.startswith(title) else text).encode()
    header = UploadHeader(
        document=names.document_name(collection, names.slug(identifier)),
        file_name="document.txt",
        media_type="text/plain",
        title=title[:512],
        metadata=metadata,
    )
    return Item(path=where, header=header, read=lambda: content)


async def send(
    client: Client, items: Iterable[Item], *, wait: bool, done: Callable[[Outcome], None]
) -> list[Outcome]:
    """Uploads side by side; `done` hears of each as it ends. Outcomes in the order of the items."""
    gate = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(item: Item) -> Outcome:
        async with gate:
            outcome = await _upload(client, item)
        if wait and not outcome.failed:
            outcome = await _final(client, outcome)
        done(outcome)
        return outcome

    return list(await asyncio.gather(*(one(item) for item in items)))


async def _upload(client: Client, item: Item) -> Outcome:
    """One upload; what is refused for the moment only is tried again, safely by its bytes."""
    name = item.header.document
    for attempt in range(RETRIES):
        try:
            document = await _stream(client, item)
        except CommandError as error:
            if error.reason in RETRIED and attempt + 1 < RETRIES:
                await asyncio.sleep(0.5 * 2**attempt)
                continue
            return Outcome(path=item.path, document=name, reason=error.reason, detail=error.detail)
        return _outcome(item.path, document)
    raise AssertionError("unreachable: the last attempt returns")


async def _stream(client: Client, item: Item) -> Document:
    async def parts() -> AsyncIterator[UploadDocumentRequest]:
        yield UploadDocumentRequest(header=item.header)
        content = item.read()
        for start in range(0, len(content), PIECE_BYTES):
            yield UploadDocumentRequest(content=content[start : start + PIECE_BYTES])

    try:
        return await client.ingest.UploadDocument(
            parts(), timeout=UPLOAD_S, metadata=await client.credentials()
        )
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from error
    except OSError as error:
        raise CommandError("FILE_UNREADABLE", str(error)) from error


def _outcome(path: str, document: Document) -> Outcome:
    return Outcome(
        path=path,
        document=document.name,
        version=document.version,
        state=state_name(document.state),
        reason=document.reason,
        detail=document.reason_detail,
    )


async def _final(client: Client, outcome: Outcome) -> Outcome:
    """Follows a document until its version is final; survives a service that restarts meanwhile."""
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while (left_s := deadline - asyncio.get_running_loop().time()) > 0:
        try:
            document = await _watch(client, outcome.document, left_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                failure = from_rpc(error)
                return Outcome(
                    path=outcome.path,
                    document=outcome.document,
                    version=outcome.version,
                    state="UNKNOWN",
                    reason=failure.reason,
                    detail=failure.detail,
                )
            await asyncio.sleep(0.5)
            continue
        if document.state in FINAL:
            return _outcome(outcome.path, document)
    return outcome


async def _watch(client: Client, name: str, left_s: float) -> Document:
    document = await client.ingest.GetDocument(
        GetDocumentRequest(name=name), timeout=10, metadata=await client.credentials()
    )
    if document.state in FINAL:
        return document
    stream = client.ingest.WatchDocument(
        WatchDocumentRequest(name=name), timeout=left_s, metadata=await client.credentials()
    )
    try:
        async for step in stream:
            document = step.document
            if document.state in FINAL:
                break
    finally:
        stream.cancel()
    return document
