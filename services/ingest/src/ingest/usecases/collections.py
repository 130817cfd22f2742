"""Creating, reading and changing collections; for deleting see `delete_collection`."""

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.base.errors import AlreadyExistsError, NotFoundError
from chassis.base.labels import held_labels
from ingest.collections import Collection, CollectionSettings, names_setting
from ingest.usecases.documents.label_documents import SendLabels, check_may_change_collection
from ingest.usecases.work import Begin, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateCollection:
    begin: Begin
    send: SendLabels

    async def run(
        self, tenant: str, collection_id: str, settings: CollectionSettings
    ) -> Collection:
        """Creates a collection, before or after its first documents.

        Raises:
            ForbiddenError: LABELS_FORBIDDEN.
            AlreadyExistsError: COLLECTION_EXISTS.
            UnavailableError: LABELS_PENDING.
        """
        check_may_change_collection(held_labels())
        async with self.begin(tenant) as work:
            await work.collection_deletions.exclude_uploads(collection_id)
            if not await work.collections.create(collection_id, settings):
                raise AlreadyExistsError(
                    "COLLECTION_EXISTS", "the collection was created before; update it instead"
                )
            await work.collections.label(collection_id, settings.access_labels)
            created = await work.collections.find(collection_id)
            assert created is not None, "it was created in this transaction"
        if settings.access_labels:
            await self.send.send_now(tenant)
        return created


@dataclass(frozen=True, slots=True, kw_only=True)
class GetCollection:
    begin: Begin

    async def run(self, tenant: str, collection_id: str) -> Collection:
        """A collection that was created or has documents.

        Raises:
            NotFoundError: COLLECTION_UNKNOWN.
        """
        async with self.begin(tenant) as work:
            return await find_collection(work, collection_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCollections:
    begin: Begin

    async def run(self, tenant: str, *, after: str, limit: int) -> Sequence[Collection]:
        """At most `limit` collections after a collection id."""
        async with self.begin(tenant) as work:
            return await work.collections.list_page(after, limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCollection:
    """Changes settings. Labels hold at once here, and in searches when the call has ended.

    Uploads into the collection wait meanwhile, so that none gets the labels from before.
    """

    begin: Begin
    send: SendLabels

    async def run(
        self, tenant: str, collection_id: str, given: CollectionSettings, paths: Sequence[str]
    ) -> Collection:
        """Sets what the mask names; one that only has documents is created by it.

        Raises:
            InvalidInputError: UPDATE_MASK.
            ForbiddenError: LABELS_FORBIDDEN.
            NotFoundError: COLLECTION_UNKNOWN.
            UnavailableError: LABELS_PENDING.
        """
        check_may_change_collection(held_labels())
        async with self.begin(tenant) as work:
            await work.collection_deletions.exclude_uploads(collection_id)
            await work.collections.lock(collection_id)
            found = await find_collection(work, collection_id)
            changed = found.settings.update(given, paths)
            if changed != found.settings or not found.created_at:
                await work.collections.update(collection_id, changed)
                await work.collections.label(collection_id, changed.access_labels)
                found = await find_collection(work, collection_id)
        # Also if nothing has changed: an earlier call may have ended before it was sent.
        if names_setting("access_labels", paths):
            await self.send.send_now(tenant)
        return found


async def find_collection(work: Work, collection_id: str) -> Collection:
    """Raises NotFoundError: COLLECTION_UNKNOWN."""
    found = await work.collections.find(collection_id)
    if found is None:
        raise unknown_collection_error()
    return found


def unknown_collection_error() -> NotFoundError:
    """The same error for a collection that does not exist and for one of another tenant."""
    return NotFoundError("COLLECTION_UNKNOWN", "no collection has this name; check name and key")
