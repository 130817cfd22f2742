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


def result_name(checked: CheckedDocument | None) -> str:
    """`NEW` for CHECK_RESULT_NEW; empty if it is not known."""
    return CheckResult.Name(checked.result).removeprefix("CHECK_RESULT_") if checked else ""


async def check(
    client: Client, items: Iterable[Numbered]
) -> AsyncGenerator[tuple[int, Item, CheckedDocument | None], None]:
    """Each item with what its upload would do.

    None: that is not known, because the item cannot be read, is skipped, or its check failed. An
    upload then says what is wrong with it.
    """
    left = iter(items)
    while group := list(islice(left, CHECKS_MAX)):
        checks = await _make_checks([item for _, item in group])
        found: dict[int, CheckedDocument] = {}
        for part in _split(checks):
            found |= await _ask(client, part)
        for place, (number, item) in enumerate(group):
            yield number, item, found.get(place)


async def _make_checks(items: Sequence[Item]) -> dict[int, DocumentCheck]:
    """Checks by the place of their item, in a thread that ends when this is cancelled."""
    stop = threading.Event()

    def read() -> dict[int, DocumentCheck]:
        made = {}
        for place, item in enumerate(items):
            digest = "" if item.skipped else _digest(item, stop)
            if digest:
                made[place] = _make_check(item, digest)
        return made

    try:
        return await asyncio.to_thread(read)
    finally:
        stop.set()


def _digest(item: Item, stop: threading.Event) -> str:
    """SHA-256 of the bytes; empty if they cannot be read, or after a stop."""
    digest = hashlib.sha256()
    try:
        with item.open() as stream:
            while piece := stream.read(PIECE_BYTES):
                if stop.is_set():
                    return ""
                digest.update(piece)
    except OSError:
        return ""
    return digest.hexdigest()


def _make_check(item: Item, digest: str) -> DocumentCheck:
    header = item.header
    check = DocumentCheck(document=header.document, sha256=digest, media_type=header.media_type)
    if item.described:
        check.description.CopyFrom(Description(title=header.title, metadata=header.metadata))
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


async def _ask(client: Client, checks: dict[int, DocumentCheck]) -> dict[int, CheckedDocument]:
    request = CheckDocumentsRequest(documents=checks.values())
    try:
        response = await client.call(client.ingest.CheckDocuments, request)
    except CommandError:
        # Their uploads say what is wrong, or wait until the service answers again.
        return {}
    return dict(zip(checks, response.documents, strict=True))
