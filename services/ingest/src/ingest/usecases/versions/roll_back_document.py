"""Rolling a document back: the content of an older version becomes the newest version."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from chassis.base.errors import FailedPreconditionError, NotFoundError
from chassis.base.labels import held_labels
from ingest.domain import Draft, Origin, Version, View, check_name
from ingest.usecases.deletion.delete_document import unknown_document_error
from ingest.usecases.documents.read_text import unknown_version_error
from ingest.usecases.ports import Objects
from ingest.usecases.uploads.accept_document import AcceptDocument
from ingest.usecases.uploads.refusals import check_reuse, deleted_version_error
from ingest.usecases.uploads.repeat_upload import repeat
from ingest.usecases.work import Begin, Work

# Objects of up to `upload_max_bytes` are in memory while they are copied.
COPIES_MAX: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBackDocument:
    """Uploads the bytes of an older version again, with what was given with them.

    So a roll back has a place in the order of uploads, is recorded under its request id, and is
    parsed, embedded and repaired like any upload; the last of several roll backs and uploads wins.
    No password is kept with a version, so bytes that need one are sent theirs again.
    What is deleted meanwhile does not come back: that is checked where the version is added, with
    the document locked.
    """

    begin: Begin
    objects: Objects
    accept: AcceptDocument
    _copies: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(COPIES_MAX))

    async def run(
        self,
        tenant: str,
        name: str,
        number: int,
        *,
        request_id: str = "",
        trace_id: str = "",
        password: str = "",
    ) -> View:
        """Returns the document with its new version; can be repeated with the same request id.

        Raises:
            InvalidInputError: DOCUMENT_NAME, METADATA_RANGE.
            NotFoundError: DOCUMENT_UNKNOWN, VERSION_UNKNOWN, COLLECTION_UNKNOWN.
            FailedPreconditionError: VERSION_NEWEST, BYTES_REMOVED, DOCUMENT_DELETED,
                DOCUMENT_PINNED, PASSWORDS_OFF.
            AlreadyExistsError: REQUEST_REUSED.
            DataLossError: OBJECT_CORRUPT.
            OverloadedError: BACKLOG_FULL, STORAGE_FULL.
            UnavailableError: STORAGE_UNAVAILABLE.
            ConflictError: REQUEST_FORGOTTEN, try again.
        """
        check_name(name)
        origin = Origin(request_id=request_id)
        async with self.begin(tenant) as work:
            newest = await work.documents.find_newest(name)
            if newest is None:
                raise unknown_document_error()
            version = await work.documents.find_version(name, number)
            if version is None:
                raise unknown_version_error(newest.version.number)
            if request_id and (known := await work.uploads.find(origin)):
                check_reuse(known, name, version.stored.sha256, held_labels())
                return await repeat(work, known)
            _check(newest, version)
            content = await _read_row(work, version)
        draft = Draft(
            tenant=tenant,
            name=name,
            file_name=version.file_name,
            media_type=version.media_type_hint,
            title=version.given_title,
            metadata=version.metadata,
            origin=origin,
            trace_id=trace_id,
            password=password,
        )
        if content is not None:
            return await self.accept.run(draft, content, restored=number)
        async with self._copies:
            content = await self._read_object(version)
            return await self.accept.run(draft, content, restored=number)

    async def _read_object(self, version: Version) -> bytes:
        try:
            return await self.objects.read(version.stored.key, sha256=version.stored.sha256)
        except NotFoundError as error:
            # A newer version went live, or the retention was lowered, after the row was read.
            raise _removed_error(version) from error


async def _read_row(work: Work, version: Version) -> bytes | None:
    """The bytes if they are in the database; None if they are in the object store."""
    if version.stored.key:
        return None
    content = await work.documents.read_content(version.document, version.number)
    if content is None:
        raise _removed_error(version)
    return content


def _check(newest: View, version: Version) -> None:
    number = version.number
    if number <= newest.entry.tombstone_version:
        raise deleted_version_error(number)
    if number == newest.version.number:
        raise FailedPreconditionError(
            "VERSION_NEWEST",
            f"version {number} is the newest already; send an older one",
            version=number,
        )
    if not View(entry=newest.entry, version=version).has_bytes:
        raise _removed_error(version)


def _removed_error(version: Version) -> FailedPreconditionError:
    return FailedPreconditionError(
        "BYTES_REMOVED",
        f"the bytes of version {version.number} are no longer stored; upload them again, and set"
        " `version_retention` of the collection to keep those of superseded versions",
        version=version.number,
    )
