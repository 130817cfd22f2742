"""Labels of documents: which they get, who may give them, and how searches follow."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from chassis.base.errors import (
    ForbiddenError,
    ServiceError,
    UnavailableError,
)
from chassis.base.labels import Held, holds_all, may_see
from ingest.collections import collection_of
from ingest.domain import Draft, Entry
from ingest.usecases.ports import LabelAll, Sweeper
from ingest.usecases.work import Begin, Work

log = logging.getLogger(__name__)

# Documents in one call of query.
BATCH: Final = 500
# How long a call sends labels before it leaves the rest to the loop.
CALL_S: Final = 5.0
PENDING_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SendLabels:
    """Tells query the labels that it has not confirmed.

    Can be interrupted anywhere and run by several processes: query keeps the latest labels.
    """

    begin: Begin
    sweeper: Sweeper
    label: LabelAll

    async def run(self) -> int:
        """Sends the labels of all tenants; returns the number of documents.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the rest waits for the next round.
        """
        tenants = await self.sweeper.list_tenants_with_labels_due()
        return sum([await self._send(tenant, (), CALL_S) for tenant in tenants])

    async def send_now(self, tenant: str, names: Sequence[str] = ()) -> None:
        """Sends the labels of these documents, or of all of the tenant, within `CALL_S`.

        Raises:
            UnavailableError: LABELS_PENDING; the loop goes on.
        """
        try:
            await self._send(tenant, names, CALL_S)
            async with self.begin(tenant) as work:
                left = await work.labels.list_due(names, 1)
        except ServiceError as error:
            log.warning("labels.pending", extra={"reason": error.reason})
            raise _pending_error() from error
        if left:
            raise _pending_error()

    async def _send(self, tenant: str, names: Sequence[str], within_s: float) -> int:
        deadline, sent = time.monotonic() + within_s, 0
        while time.monotonic() < deadline:
            async with self.begin(tenant) as work:
                due = await work.labels.list_due(names, BATCH)
            if not due:
                break
            await self.label(tenant, due)
            async with self.begin(tenant) as work:
                await work.labels.confirm(due)
            sent += len(due)
        return sent


def check_upload_labels(
    draft: Draft, entry: Entry, inherited: tuple[str, ...], held: Held
) -> ForbiddenError | None:
    """Checks that the uploader may see the document, before and after, and has its new labels."""
    if not may_see(entry.labels.names, held):
        return _forbidden_error("a document of this name has other labels; choose another name")
    if not holds_all(draft.labels, held):
        return _forbidden_error("a key gives only labels that it has")
    names, _ = _choose(draft, entry, inherited)
    if not may_see(names, held):
        return _forbidden_error(
            "the document would have labels of its collection that this key lacks; give it one of"
            " the key's labels, or choose another collection"
        )
    return None


async def label_upload(work: Work, draft: Draft, entry: Entry, inherited: tuple[str, ...]) -> Entry:
    """Gives a document the labels of an upload, or else those of its collection, if it has none."""
    names, own = _choose(draft, entry, inherited)
    return await _label(work, entry, names, own=own, order_ns=draft.order_ns if draft.labels else 0)


async def label_described(work: Work, draft: Draft, entry: Entry) -> Entry:
    """Gives a document the labels of a description event; without any those it has stay."""
    if not draft.labels:
        return entry
    return await _label(work, entry, draft.labels, own=True, order_ns=draft.order_ns)


async def relabel(work: Work, entry: Entry, labels: tuple[str, ...], held: Held) -> Entry:
    """Gives a document labels instead of those it has; none: those of its collection.

    The collection is shared, see `CollectionDeletions.share`.

    Raises:
        ForbiddenError: LABELS_FORBIDDEN.
    """
    if held is not None and (not labels or not holds_all(labels, held)):
        raise _forbidden_error(
            "a key gives only labels that it has, and takes the last one away only if it has all"
        )
    names = labels
    if not labels:
        settings = await work.collections.find_settings(collection_of(entry.name))
        names = settings.access_labels if settings else ()
    return await _label(work, entry, names, own=bool(labels), order_ns=0)


def check_may_change_collection(held: Held) -> None:
    """Checks that a caller sees every document of a collection that it changes.

    Raises:
        ForbiddenError: LABELS_FORBIDDEN.
    """
    if held is not None:
        raise _forbidden_error("only a key with all labels creates, changes or deletes collections")


def _choose(draft: Draft, entry: Entry, inherited: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """The labels of a document after an upload, and whether they are its own."""
    if draft.labels:
        return draft.labels, True
    return (entry.labels.names, True) if entry.labels.own else (inherited, False)


async def _label(
    work: Work, entry: Entry, names: tuple[str, ...], *, own: bool, order_ns: int
) -> Entry:
    """Labels a document, unless later labels were handled before."""
    known = entry.labels
    if not order_ns and (known.names, known.own) == (names, own):
        return entry
    # The chunks of a new document bring its labels themselves.
    due = entry.latest_version > 0 and known.names != names
    changed = await work.labels.put(entry.name, names, own=own, order_ns=order_ns, due=due)
    return replace(entry, labels=changed) if changed else entry


def _forbidden_error(detail: str) -> ForbiddenError:
    return ForbiddenError("LABELS_FORBIDDEN", detail)


def _pending_error() -> UnavailableError:
    return UnavailableError(
        "LABELS_PENDING",
        "the labels are stored, and searches will follow; until then they follow the old ones",
        retry_after_s=PENDING_RETRY_S,
    )
