"""Asks which documents an upload would change, so that the others are not sent."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from itertools import islice

from aquifer.ingest.v1.document_pb2 import Description
from aquifer.ingest.v1.ingest_service_pb2 import (
    CheckDocumentsRequest,
    CheckedDocument,
    CheckResult,
    DocumentCheck,
)
from aquifer_cli.client import Client
from aquifer_cli.errors import CommandError
from aquifer_cli.sources import Item

CHECKS_MAX = 1_000
# A message has at most 4 MiB.
CHECKS_MAX_BYTES = 2 << 20
PIECE_BYTES = 1 << 20
UNCHANGED = CheckResult.CHECK_RESULT_UNCHANGED

Numbered = tuple[int, Item]
Answer = CheckedDocument | CommandError
"""What an upload would do, or why that is not known."""


def result_name(answer: Answer) -> str:
    """`NEW` for CHECK_RESULT_NEW; empty if it is not known."""
    if isinstance(answer, CommandError):
        return ""
    return CheckResult.Name(answer.result).removeprefix("CHECK_RESULT_")


async def check(
    client: Client, items: Iterable[Numbered]
) -> AsyncGenerator[tuple[int, Item, Answer], None]:
    """Each item with what its upload would do.

    An error is FILE_UNREADABLE, the reason why the item is skipped, or the reason of the service.
    """
    left = iter(items)
    while group := list(islice(left, CHECKS_MAX)):
        checks: dict[int, DocumentCheck] = {}
        answers: dict[int, Answer] = {}
        for place, made in enumerate(await _make_checks([item for _, item in group])):
            if isinstance(made, CommandError):
                answers[place] = made
            else:
                checks[place] = made
        for part in _split(checks):
            answers |= await _ask(client, part)
        for place, (number, item) in enumerate(group):
            yield number, item, answers[place]


async def _make_checks(items: Sequence[Item]) -> list[DocumentCheck | CommandError]:
    """The check of each item, made in a thread that ends when this is cancelled."""
    stop = threading.Event()

    def read() -> list[DocumentCheck | CommandError]:
        return [_make_check(item, stop) for item in items if not stop.is_set()]

    try:
        return await asyncio.to_thread(read)
    finally:
        stop.set()


def _digest(item: Item, stop: threading.Event) -> str:
    """SHA-256 of the bytes; of the first ones only after a stop.

    Raises:
        OSError: they cannot be read.
    """
    digest = hashlib.sha256()
    with item.open() as stream:
        while not stop.is_set() and (piece := stream.read(PIECE_BYTES)):
            digest.update(piece)
    return digest.hexdigest()


def _make_check(item: Item, stop: threading.Event) -> DocumentCheck | CommandError:
    if item.skipped:
        return CommandError(item.skipped, "; ".join(item.notes))
    header = item.header
    try:
        digest = _digest(item, stop)
    except OSError as error:
        return CommandError("FILE_UNREADABLE", error.strerror or str(error))
    check = DocumentCheck(document=header.document, sha256=digest, media_type=header.media_type)
    if item.described:
        check.description.CopyFrom(Description(title=header.title, metadata=header.metadata))
        check.labels.extend(header.labels)
    return check


def _split(checks: dict[int, DocumentCheck]) -> Iterator[dict[int, DocumentCheck]]:
    """Parts that fit into a message."""
    part: dict[int, DocumentCheck] = {}
    size = 0
    for place, check in checks.items():
        size += check.ByteSize()
        if part and size > CHECKS_MAX_BYTES:
            yield part
            part, size = {}, check.ByteSize()
        part[place] = check
    if part:
        yield part


async def _ask(client: Client, checks: dict[int, DocumentCheck]) -> dict[int, Answer]:
    request = CheckDocumentsRequest(documents=checks.values())
    try:
        response = await client.call(client.ingest.CheckDocuments, request)
    except CommandError as error:
        return dict.fromkeys(checks, error)
    return dict(zip(checks, response.documents, strict=True))
