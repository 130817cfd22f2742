"""Changing the title, metadata and labels of a document without a new version."""

from dataclasses import dataclass

from chassis.base.labels import held_labels
from ingest.changes import Changes
from ingest.domain import State, View
from ingest.pace import Pace
from ingest.usecases.deletion.delete_document import deleted_document_error, unknown_document_error
from ingest.usecases.documents.label_documents import SendLabels, relabel
from ingest.usecases.ports import Changed
from ingest.usecases.versions.describe_version import describe_shown
from ingest.usecases.work import Begin, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateDocument:
    """Changes the description of the newest version and of the live one, which searches find.

    They differ while a newer version is in progress or has failed. Labels are those of the
    document: they hold for all its versions, at once here, and in searches when the call has ended.
    """

    begin: Begin
    send: SendLabels
    pace: Pace
    changed: Changed

    async def run(self, tenant: str, name: str, changes: Changes) -> View:
        """Returns the changed document; can be repeated.

        Raises:
            InvalidInputError: METADATA_RANGE.
            ForbiddenError: LABELS_FORBIDDEN.
            NotFoundError: DOCUMENT_UNKNOWN.
            FailedPreconditionError: DOCUMENT_DELETED.
            UnavailableError: LABELS_PENDING.
        """
        async with self.begin(tenant) as work:
            view = await _update(work, name, changes, self.pace.wait_s(0))
        # No event reports this change to watchers.
        self.changed(tenant, name)
        if changes.labels is not None:
            await self.send.send_now(tenant, [name])
        return view


async def _update(work: Work, name: str, changes: Changes, wait_s: float) -> View:
    await work.collection_deletions.share(name)
    entry = await work.documents.lock(name)
    newest = await work.documents.find_newest(name)
    if entry is None or newest is None:
        raise unknown_document_error()
    if newest.version.state in (State.DELETING, State.DELETED):
        raise deleted_document_error()
    if changes.labels is not None:
        entry = await relabel(work, entry, changes.labels, held_labels())
    version = await describe_shown(work, entry, newest.version, changes.apply, wait_s=wait_s)
    return View(entry=entry, version=version)
