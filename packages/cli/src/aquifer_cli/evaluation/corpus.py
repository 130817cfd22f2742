"""Brings the documents of a file into a collection, without those that are there already."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aquifer.ingest.v1.document_pb2 import DocumentState
from aquifer_cli import names
from aquifer_cli import upload as uploading
from aquifer_cli.client import Client
from aquifer_cli.documents import list_documents, state_name
from aquifer_cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, HINTS, CommandError
from aquifer_cli.screen import Screen
from aquifer_cli.sending import repeat_progress

UNCHANGED: Final = "UNCHANGED"
# Anything else is not known to be in the index, or not to be.
FINAL: Final = {"INDEXED", "FAILED", "REFUSED", "SKIPPED"}
ACCEPTED: Final = {"INDEXED", "FAILED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """What became of the documents of a file.

    `sent` are those that were accepted now, because they were not there, or not with this content.
    `not_indexed` counts by reason those that no search can find. `seconds`: until all were final.
    """

    total: int
    indexed: int
    sent: int
    not_indexed: Mapping[str, int]
    seconds: float


async def ingest(
    client: Client, screen: Screen, items: Sequence[uploading.Item], collection: str
) -> Documents:
    """Sends what is new or changed, and waits until all is final.

    Raises:
        CommandError: CORPUS_INCOMPLETE if some documents are neither indexed nor failed, or if none
            is indexed; or the key is not accepted.
    """
    started_s = time.monotonic()
    done = 0
    with screen.show_progress(indexed=len(items)) as bars:

        def on_done(_: uploading.Outcome) -> None:
            nonlocal done
            done += 1
            bars["indexed"].advance()

        def on_wait(reason: str) -> None:
            bars["indexed"].set_label(f"indexed ({reason}, trying again)" if reason else "indexed")

        def describe() -> str:
            return f"{done:,} of {len(items):,} documents are final"

        async with repeat_progress(screen, describe):
            outcomes = await uploading.send(
                client,
                items,
                wait=True,
                on_done=on_done,
                on_wait=on_wait,
                on_left=bars["indexed"].set_left,
            )
    _refuse_unfinished(outcomes)
    states = Counter(one.state for one in outcomes)
    return Documents(
        total=len(items),
        indexed=states["INDEXED"],
        sent=sum(one.change != UNCHANGED for one in outcomes if one.state in ACCEPTED),
        not_indexed=await _count_failures(client, outcomes, collection),
        seconds=time.monotonic() - started_s,
    )


async def inspect(client: Client, collection: str) -> tuple[Documents, frozenset[str]]:
    """What is in a collection already, and the ids of its documents.

    Raises:
        CommandError: CORPUS_INCOMPLETE if none is indexed; or the key is not accepted.
    """
    found = [one async for one in list_documents(client, collection, "")]
    indexed = [one for one in found if one.state == DocumentState.DOCUMENT_STATE_INDEXED]
    if not indexed:
        raise CommandError(
            "CORPUS_INCOMPLETE",
            f"the collection {collection} has no indexed document",
            hint="`aquifer collections` lists the collections",
        )
    reasons = Counter(
        one.reason or state_name(one.state)
        for one in found
        if one.state != DocumentState.DOCUMENT_STATE_INDEXED
    )
    documents = Documents(
        total=len(found),
        indexed=len(indexed),
        sent=0,
        not_indexed=dict(sorted(reasons.items())),
        seconds=0.0,
    )
    return documents, frozenset(names.document_id(one.name) for one in found)


def _refuse_unfinished(outcomes: Sequence[uploading.Outcome]) -> None:
    left = [one for one in outcomes if one.state not in FINAL]
    if not left and not any(one.state == "INDEXED" for one in outcomes):
        left = list(outcomes)
    if not left:
        return
    reasons = Counter(one.reason or one.state for one in left)
    counted = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    raise CommandError(
        "CORPUS_INCOMPLETE",
        f"{len(left):,} of {len(outcomes):,} documents are not indexed: {counted}",
        hint=HINTS.get(left[0].reason, "`aquifer status` shows the stack; run the command again"),
        exit_code=EXIT_UNAVAILABLE if any(one.unreachable for one in left) else EXIT_FAILED,
    )


async def _count_failures(
    client: Client, outcomes: Sequence[uploading.Outcome], collection: str
) -> Mapping[str, int]:
    failed = [one for one in outcomes if one.state != "INDEXED"]
    known: dict[str, str] = {}
    # A document that failed before, and is not sent again, comes without its reason.
    if not all(one.reason for one in failed):
        known = {
            document.name: document.reason
            async for document in list_documents(client, collection, "FAILED")
        }
    reasons = Counter(one.reason or known.get(one.document, one.state) for one in failed)
    return dict(sorted(reasons.items()))
