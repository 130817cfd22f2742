"""Description events: title and metadata of a document, without its bytes."""

from dataclasses import dataclass, replace
from typing import Final

from aquifer.ingest.v1.upload_events_pb2 import DocumentDescribed
from aquifer.structs import to_json
from chassis.base.labels import read_labels
from chassis.events.delivery import Delivery
from ingest.domain import Draft, Entry, Origin, Upload, UploadResult, Version
from ingest.pace import Pace
from ingest.usecases import announce
from ingest.usecases.deletion.delete_document import deleted_document_error, unknown_document_error
from ingest.usecases.deletion.remove_document import supersede
from ingest.usecases.documents.label_documents import label_described
from ingest.usecases.ports import Sweeper
from ingest.usecases.uploads.answer_events import AnswerEvents, wait_for_overtaken
from ingest.usecases.uploads.refusals import AnsweredBeforeError, check_tenant
from ingest.usecases.versions.describe_version import describe_shown
from ingest.usecases.work import Begin, Work

# Longer than the fetch of an upload can take, or the repair of a service that handles no events.
DESCRIPTIONS_KEPT_S: Final = 7 * 86_400.0
FORGET_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeDocument:
    """Sets what a description event says, unless a later event was handled before.

    They replace those of the newest version and of the live one, as `UpdateDocument` does. The row
    of the document keeps them: a new version of an upload from before the description, which is
    handled later, gets them too. The result, `DocumentUpdated`, is published with the change.
    """

    begin: Begin
    answers: AnswerEvents
    pace: Pace

    async def run(self, delivery: Delivery[DocumentDescribed]) -> None:
        """Changes the description; can be repeated.

        Raises:
            TenantLateError, NotFoundError, InvalidInputError: as `AnswerEvents.settle`.
            ConflictError: DOCUMENT_LATE, try again soon.
            UnavailableError, OverloadedError: from a dependency; try again.
        """
        await self.answers.settle(delivery, lambda origin: self._describe(delivery, origin))

    async def _describe(self, delivery: Delivery[DocumentDescribed], origin: Origin) -> None:
        draft = read_description(delivery, origin)
        async with self.begin(draft.tenant) as work:
            await work.collection_deletions.share(draft.name)
            entry = await work.documents.lock(draft.name)
            standing = await work.tenants.find_standing()
            if refusal := check_tenant(origin, standing):
                raise refusal
            if await work.uploads.find(origin):
                raise AnsweredBeforeError
            if entry is None:
                wait_for_overtaken(delivery)
                raise unknown_document_error()
            view = await work.documents.find_newest(draft.name)
            assert view is not None, "a document's newest version is never removed"
            if draft.order_ns < _find_latest_order(entry, view.version):
                await supersede(work, draft.tenant, draft.name, draft.origin)
                return
            is_deleted = entry.tombstone_version == entry.latest_version
            if is_deleted or await work.collection_deletions.includes(draft.name):
                wait_for_overtaken(delivery)
                raise deleted_document_error()
            await self._apply(work, draft, entry, view.version)

    async def _apply(self, work: Work, draft: Draft, entry: Entry, newest: Version) -> None:
        upload = Upload(
            origin=draft.origin,
            document=draft.name,
            version=newest.number,
            sha256="",
            unchanged=False,
            result=UploadResult.UPDATED,
        )
        if not await work.uploads.add(upload):
            raise AnsweredBeforeError
        await describe_shown(
            work,
            entry,
            newest,
            lambda _: (draft.title, draft.metadata),
            wait_s=self.pace.wait_s(0),
            order_ns=draft.order_ns,
        )
        await label_described(work, draft, entry)
        await work.documents.keep_description(draft)
        announce.send_update(work, newest, draft.origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetDescriptions:
    """Removes kept descriptions for which no earlier upload has come in `DESCRIPTIONS_KEPT_S`.

    An upload that comes even later has its own title and metadata.
    """

    begin: Begin
    sweeper: Sweeper

    async def run(self) -> int:
        """Returns the number of removed descriptions.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the rest waits for the next round.
        """
        return sum([await self._run_tenant(one) for one in await self.sweeper.list_tenants()])

    async def _run_tenant(self, tenant: str) -> int:
        forgotten, last = 0, FORGET_BATCH
        while last == FORGET_BATCH:
            async with self.begin(tenant) as work:
                last = await work.documents.forget_descriptions(DESCRIPTIONS_KEPT_S, FORGET_BATCH)
            forgotten += last
        return forgotten


def read_description(delivery: Delivery[DocumentDescribed], origin: Origin) -> Draft:
    """What a description event says of its document.

    Raises:
        InvalidInputError: DOCUMENT_NAME, METADATA_RANGE, LABELS_INVALID.
    """
    event = delivery.event
    return Draft(
        tenant=event.tenant,
        name=event.document,
        title=event.title,
        metadata=to_json(event.metadata),
        labels=read_labels(event.labels),
        origin=replace(origin, correlation_id=event.correlation_id),
        order_ns=delivery.stored_ns,
    )


def _find_latest_order(entry: Entry, newest: Version) -> int:
    return max(entry.upload_order, entry.description_order, newest.description_order)
