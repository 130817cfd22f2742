"""Pinning a document: searches keep to its live version until it is unpinned."""

from dataclasses import dataclass

from chassis.base.errors import FailedPreconditionError
from ingest.domain import Entry, View, check_name
from ingest.usecases.deletion.delete_document import unknown_document_error
from ingest.usecases.documents.read_text import unknown_version_error
from ingest.usecases.ports import Changed
from ingest.usecases.uploads.refusals import deleted_version_error
from ingest.usecases.work import Begin, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class PinDocument:
    """Pins a document to its newest version, which must be live.

    So there is no newer version that could go live, not even one that failed here and becomes
    searchable late, and while the document is pinned none is added. That makes searches keep to
    the version without a further rule in any service, in whatever order events arrive.
    """

    begin: Begin
    changed: Changed

    async def run(self, tenant: str, name: str, number: int) -> View:
        """Returns the pinned document; can be repeated.

        Raises:
            InvalidInputError: DOCUMENT_NAME.
            NotFoundError: DOCUMENT_UNKNOWN, VERSION_UNKNOWN.
            FailedPreconditionError: DOCUMENT_DELETED, VERSION_NOT_LIVE.
        """
        check_name(name)
        async with self.begin(tenant) as work:
            _check(await _lock(work, name), number)
            view = await _set(work, name, pinned=True)
        # No event reports this change to watchers.
        self.changed(tenant, name)
        return view


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpinDocument:
    begin: Begin
    changed: Changed

    async def run(self, tenant: str, name: str) -> View:
        """Takes uploads again; can be repeated.

        Raises:
            InvalidInputError: DOCUMENT_NAME.
            NotFoundError: DOCUMENT_UNKNOWN.
        """
        check_name(name)
        async with self.begin(tenant) as work:
            await _lock(work, name)
            view = await _set(work, name, pinned=False)
        self.changed(tenant, name)
        return view


async def _lock(work: Work, name: str) -> Entry:
    entry = await work.documents.lock(name)
    if entry is None:
        raise unknown_document_error()
    return entry


async def _set(work: Work, name: str, *, pinned: bool) -> View:
    entry = await work.documents.pin(name, pinned=pinned)
    newest = await work.documents.find_version(name, entry.latest_version)
    assert newest is not None, "a document's newest version is never removed"
    return View(entry=entry, version=newest)


def _check(entry: Entry, number: int) -> None:
    if not 1 <= number <= entry.latest_version:
        raise unknown_version_error(entry.latest_version)
    if number <= entry.tombstone_version:
        raise deleted_version_error(number)
    if not number == entry.live_version == entry.latest_version:
        live = f"version {entry.live_version} is live" if entry.live_version else "none is live"
        raise FailedPreconditionError(
            "VERSION_NOT_LIVE",
            f"a document is pinned to its newest version, when that is live: {live},"
            f" {entry.latest_version} is the newest; roll back to version {number} first",
            live_version=entry.live_version,
            latest_version=entry.latest_version,
        )
