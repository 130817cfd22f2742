"""Deleting a collection with its documents: hidden from searches at once, then removed everywhere.

What holds whatever is killed, repeated or delivered late:

* A document belongs to a deletion if it was uploaded before: no upload into the collection is open
  when the deletion is recorded, and its `upload_order` is that of the last upload or later.
* Whoever locks such a document first writes its tombstone: the batches here, or an upload after
  the deletion (`RecordUploads`), which then adds a new version that no tombstone covers.
* An upload event that was published before the deletion is refused, whenever it is handled.
* Each tombstone orders the removal of its document as `DeleteDocument` does, with its own receipt.
  The deletion has finished when none of its documents is DELETING; its receipt adds up theirs.
"""

import logging
import time
from dataclasses import dataclass
from typing import Final

from chassis.base.errors import (
    ConflictError,
    FailedPreconditionError,
    NotFoundError,
    OverloadedError,
    ServiceError,
    UnavailableError,
)
from chassis.base.labels import held_labels
from ingest.pace import Pace
from ingest.usecases import announce
from ingest.usecases.collections import find_collection
from ingest.usecases.deletion.delete_document import HIDE_RETRY_S, write_tombstones
from ingest.usecases.documents.label_documents import check_may_change_collection
from ingest.usecases.ports import HideAll, Sweeper
from ingest.usecases.rows import CollectionDeletion
from ingest.usecases.work import Begin

log = logging.getLogger(__name__)

# Documents in one transaction, and in one call of query.
BATCH: Final = 500
# How long a call marks and hides documents before it leaves the rest to the loop.
CALL_S: Final = 5.0
DELETIONS_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class HideCollection:
    """Writes the tombstones of a deletion and has query hide its documents, in batches.

    Can be interrupted anywhere and run by several processes: each batch looks for what is left.
    """

    begin: Begin
    hide: HideAll
    pace: Pace

    async def run(self, tenant: str, deletion: CollectionDeletion, within_s: float) -> bool:
        """Returns whether searches find no document of the deletion; False if time ran out.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the rest waits for the next run.
        """
        deadline = time.monotonic() + within_s
        for step in (self._mark, self._hide):
            after: str | None = ""
            while after is not None:
                if time.monotonic() >= deadline:
                    return False
                after = await step(tenant, deletion, after)
        async with self.begin(tenant) as work:
            await work.collection_deletions.mark_hidden(deletion)
        return True

    async def _mark(self, tenant: str, deletion: CollectionDeletion, after: str) -> str | None:
        """Writes the next tombstones; returns the last document, None if no more follow."""
        async with self.begin(tenant) as work:
            found = await work.collection_deletions.lock_unmarked(deletion, after, BATCH)
            if found:
                await write_tombstones(work, found, self.pace.wait_s(0))
        return found[-1].document if len(found) == BATCH else None

    async def _hide(self, tenant: str, deletion: CollectionDeletion, after: str) -> str | None:
        """Hides the next documents; returns the last one, None if no more follow."""
        async with self.begin(tenant) as work:
            shown = await work.collection_deletions.list_shown(deletion.collection_id, after, BATCH)
        if shown:
            await self.hide(tenant, shown)
            async with self.begin(tenant) as work:
                await work.deletions.mark_hidden(shown)
        return shown[-1][0] if len(shown) == BATCH else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteCollection:
    begin: Begin
    hide: HideCollection

    async def run(
        self, tenant: str, collection_id: str, *, force: bool
    ) -> CollectionDeletion | None:
        """Deletes a collection and its settings; with `force` also its documents.

        A repeat goes on with a deletion that is not hidden yet, and returns the last one if there
        is nothing to delete.

        Raises:
            ForbiddenError: LABELS_FORBIDDEN.
            NotFoundError: COLLECTION_UNKNOWN.
            FailedPreconditionError: COLLECTION_NOT_EMPTY.
            UnavailableError: HIDE_PENDING; the deletion is recorded and goes on by itself.
        """
        check_may_change_collection(held_labels())
        if not force:
            await self._delete_empty(tenant, collection_id)
            return None
        deletion = await self._record(tenant, collection_id)
        if not deletion.hidden:
            await self._hide(tenant, deletion)
        async with self.begin(tenant) as work:
            return await work.collection_deletions.find_last(collection_id)

    async def _delete_empty(self, tenant: str, collection_id: str) -> None:
        async with self.begin(tenant) as work:
            await work.collection_deletions.exclude_uploads(collection_id)
            found = await find_collection(work, collection_id)
            if found.document_count:
                raise FailedPreconditionError(
                    "COLLECTION_NOT_EMPTY",
                    f"the collection has {found.document_count} documents; "
                    "delete them first, or set `force`",
                    documents=found.document_count,
                )
            await work.collections.delete(collection_id)

    async def _record(self, tenant: str, collection_id: str) -> CollectionDeletion:
        """Records a deletion, unless the last one is to be repeated."""
        async with self.begin(tenant) as work:
            await work.collection_deletions.exclude_uploads(collection_id)
            last = await work.collection_deletions.find_last(collection_id)
            if last and not last.hidden:
                return last
            if last and await work.collections.find(collection_id) is None:
                return last
            await find_collection(work, collection_id)
            await work.collections.delete(collection_id)
            return await work.collection_deletions.add(collection_id)

    async def _hide(self, tenant: str, deletion: CollectionDeletion) -> None:
        try:
            hidden = await self.hide.run(tenant, deletion, CALL_S)
        except ServiceError as error:
            log.warning("collection.hide_pending", extra={"reason": error.reason})
            raise _pending_error() from error
        if not hidden:
            raise _pending_error()


def _pending_error() -> UnavailableError:
    return UnavailableError(
        "HIDE_PENDING",
        "the deletion continues by itself; until then searches may find documents",
        retry_after_s=HIDE_RETRY_S,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GetCollectionDeletion:
    begin: Begin

    async def run(self, tenant: str, collection_id: str) -> CollectionDeletion:
        """The last deletion of a collection with documents.

        Raises:
            NotFoundError: COLLECTION_DELETION_UNKNOWN.
        """
        async with self.begin(tenant) as work:
            found = await work.collection_deletions.find_last(collection_id)
        if found is None:
            raise NotFoundError(
                "COLLECTION_DELETION_UNKNOWN",
                "no collection of this name was deleted with documents; check name and key",
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinueDeletions:
    """Goes on with the deletions of collections of all tenants, and reports those that are done.

    One that can not go on delays no other.
    """

    begin: Begin
    sweeper: Sweeper
    hide: HideCollection

    async def run(self) -> int:
        """Returns how many have finished.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the open ones could not be read.
        """
        open_ones = await self.sweeper.list_collection_deletions(DELETIONS_AT_ONCE)
        return sum([await self._try_to_continue(tenant, one) for tenant, one in open_ones])

    async def _try_to_continue(self, tenant: str, deletion: CollectionDeletion) -> bool:
        try:
            return await self._continue(tenant, deletion)
        except (UnavailableError, OverloadedError, ConflictError) as error:
            about = {"tenant": tenant, "collection": deletion.collection_id}
            log.warning("deletion.waiting", extra={**about, "reason": error.reason})
            return False

    async def _continue(self, tenant: str, deletion: CollectionDeletion) -> bool:
        if not (deletion.hidden or await self.hide.run(tenant, deletion, CALL_S)):
            return False
        async with self.begin(tenant) as work:
            finished = await work.collection_deletions.finish(deletion)
            if finished:
                announce.send_collection_deletion(work, tenant, finished)
        return finished is not None
