"""Uploads in several calls, which survive broken connections, crashes and a change of replica.

What must hold:

* The first `offset` bytes of a session are durable, and only they are: a part is an object first,
  then a row, in the transaction that moves the offset.
* Of two calls that append at the same offset, one moves it; the other is refused with the new one.
* A session becomes at most one version, however often and wherever it is finished: its id is the
  request id of the upload. Its rows go after that version is recorded, its objects after its rows.
* What a crash leaves is removed: objects without a row by the sweep of objects, sessions by expiry.
"""

import asyncio
import hashlib
import logging
import re
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from chassis.base.errors import (
    ConflictError,
    DataLossError,
    FieldViolation,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    ServiceError,
)
from ingest.domain import SHA256, Draft, Origin, View
from ingest.usecases.ports import Objects, Sizes, Sweeper
from ingest.usecases.rows import Part, Session
from ingest.usecases.uploads.accept_document import AcceptDocument
from ingest.usecases.uploads.admission import Admission
from ingest.usecases.uploads.refusals import pinned_error
from ingest.usecases.uploads.repeat_upload import repeat
from ingest.usecases.work import Begin, Work

log = logging.getLogger(__name__)

# Each running call holds as much in memory.
PART_BYTES: Final = 4 << 20
# Bounds the number of parts; less is kept only if it completes the upload.
PART_MIN_BYTES: Final = 64 << 10
PIECE_BYTES: Final = 1 << 20
FULL_RETRY_S: Final = 60.0
EXPIRED_AT_ONCE: Final = 200
_ID: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUpload:
    """Begins a session, or finds the one of the same document and content.

    One tenant has at most `sessions_max` sessions, which declare `sessions_max_bytes` together. One
    that has all its content is not kept longer: it may be one that can not be finished.
    """

    begin: Begin
    admission: Admission
    sizes: Sizes
    sessions_max: int
    sessions_max_bytes: int
    expiry_s: float

    async def run(self, draft: Draft, sha256: str, size_bytes: int) -> Session:
        """The session, with the bytes that it has; it gets the title and metadata of `draft`.

        Raises:
            InvalidInputError: SHA256_INVALID, EMPTY_DOCUMENT, DOCUMENT_TOO_LARGE.
            FailedPreconditionError: DOCUMENT_PINNED; the document may also be pinned later.
            OverloadedError: UPLOADS_FULL, BACKLOG_FULL.
        """
        _check_content(sha256, size_bytes)
        self.sizes.check(size_bytes, draft.media_type, draft.file_name)
        await self.admission.check(draft.tenant)
        async with self.begin(draft.tenant) as work:
            await _check_pin(work, draft, sha256)
            # Otherwise two calls could pass the limits together, or begin the same session.
            await work.sessions.lock()
            known = await work.sessions.find_same(draft, sha256, size_bytes)
            if known is not None and await _is_finished(work, known):
                await work.sessions.remove(known.upload_id)
                known = None
            if known is None:
                await self._check_limits(work, size_bytes)
            session = Session(
                draft=draft,
                upload_id=known.upload_id if known else uuid.uuid4().hex,
                sha256=sha256,
                size_bytes=size_bytes,
            )
            return await work.sessions.put(session, self.expiry_s)

    async def _check_limits(self, work: Work, size_bytes: int) -> None:
        count, declared_bytes = await work.sessions.measure()
        if count >= self.sessions_max or declared_bytes + size_bytes > self.sessions_max_bytes:
            raise OverloadedError(
                "UPLOADS_FULL",
                f"{count} uploads of {declared_bytes} bytes are not finished;"
                " finish them, or wait until they expire",
                retry_after_s=FULL_RETRY_S,
                uploads=count,
                uploads_max=self.sessions_max,
                bytes=declared_bytes,
                bytes_max=self.sessions_max_bytes,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GetUpload:
    begin: Begin

    async def run(self, tenant: str, upload_id: str) -> Session:
        """The session.

        Raises:
            NotFoundError: UPLOAD_UNKNOWN.
        """
        _check_id(upload_id)
        async with self.begin(tenant) as work:
            session = await work.sessions.find(upload_id)
        if session is None:
            raise _unknown_error()
        return session


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendUpload:
    """Adds content to a session.

    What was received is stored even if the caller is gone meanwhile: a connection that breaks often
    still makes progress.
    """

    begin: Begin
    get: GetUpload
    objects: Objects
    make_key: Callable[[str, str], str]
    expiry_s: float
    _storing: "set[asyncio.Task[Session]]" = field(default_factory=set)

    async def run(
        self, tenant: str, upload_id: str, offset: int, content: AsyncIterator[bytes]
    ) -> Session:
        """Stores content from `offset` on; returns the session as it is then.

        Raises:
            NotFoundError: UPLOAD_UNKNOWN.
            ConflictError: UPLOAD_OFFSET.
            InvalidInputError: SIZE_MISMATCH.
            OverloadedError: STORAGE_FULL.
        """
        session = await self.get.run(tenant, upload_id)
        if offset != session.offset:
            raise _offset_error(session)
        received = bytearray()
        try:
            async for piece in content:
                _check_fits(session, len(received) + len(piece))
                received += piece
                if len(received) >= PART_BYTES:
                    part, received = bytes(received), bytearray()
                    session = await asyncio.shield(self._start_storing(session, part))
        except BaseException:
            if _is_part(session, received):
                _ = self._start_storing(session, bytes(received))
            raise
        if _is_part(session, received):
            session = await asyncio.shield(self._start_storing(session, bytes(received)))
        return session

    def _start_storing(self, session: Session, content: bytes) -> "asyncio.Task[Session]":
        storing = asyncio.get_running_loop().create_task(self._store(session, content))
        self._storing.add(storing)
        storing.add_done_callback(self._end_storing)
        return storing

    def _end_storing(self, storing: "asyncio.Task[Session]") -> None:
        self._storing.discard(storing)
        # Read here as well, because the caller may be gone.
        if not storing.cancelled() and (error := storing.exception()) is not None:
            reason = error.reason if isinstance(error, ServiceError) else repr(error)
            log.warning("upload.part_not_stored", extra={"reason": reason})

    async def _store(self, session: Session, content: bytes) -> Session:
        tenant = session.draft.tenant
        key = self.make_key(tenant, f"uploads/{session.upload_id}")
        put = await self.objects.put(key, content, max_bytes=len(content))
        part = Part(start=session.offset, size_bytes=len(content), sha256=put.sha256, key=key)
        async with self.begin(tenant) as work:
            moved = await work.sessions.append(session.upload_id, part, self.expiry_s)
            found = moved or await work.sessions.find(session.upload_id)
        if moved is not None:
            return moved
        await self.objects.delete(key)
        raise _unknown_error() if found is None else _offset_error(found)


class _ContentLostError(Exception):
    """The stored parts are not the content that was declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishUpload:
    """Makes a session a version; also answers for one that was finished before."""

    begin: Begin
    accept: AcceptDocument
    objects: Objects

    async def run(self, tenant: str, upload_id: str, trace_id: str, password: str = "") -> View:
        """Accepts the content as an upload; returns its document.

        Raises:
            NotFoundError: UPLOAD_UNKNOWN, COLLECTION_UNKNOWN.
            InvalidInputError: METADATA_RANGE, SIZE_MISMATCH; CHECKSUM_MISMATCH, the session is
                removed.
            FailedPreconditionError: DOCUMENT_PINNED, PASSWORDS_OFF.
            OverloadedError: BACKLOG_FULL, STORAGE_FULL.
            ConflictError: REQUEST_FORGOTTEN, try again.
        """
        _check_id(upload_id)
        async with self.begin(tenant) as work:
            session = await work.sessions.find(upload_id)
            if session is None:
                return await _repeat(work, upload_id)
            parts = await work.sessions.list_parts(upload_id)
        if session.offset != session.size_bytes:
            raise _size_error(session, session.offset)
        try:
            draft = session.make_draft(trace_id, password)
            view = await self.accept.run(draft, self._read(session, parts))
        except _ContentLostError as error:
            return await self._give_up(session, error)
        await self._remove(session)
        return view

    async def _read(self, session: Session, parts: Sequence[Part]) -> AsyncIterator[bytes]:
        """The content; fails at its end if it is not the one that was declared."""
        digest = hashlib.sha256()
        for part in parts:
            try:
                content = await self.objects.read(part.key, sha256=part.sha256)
            except (NotFoundError, DataLossError) as error:
                raise _ContentLostError from error
            await asyncio.to_thread(digest.update, content)
            for start in range(0, len(content), PIECE_BYTES):
                yield content[start : start + PIECE_BYTES]
        if digest.hexdigest() != session.sha256:
            raise _ContentLostError

    async def _give_up(self, session: Session, error: _ContentLostError) -> View:
        """Removes a session that can not become what was declared.

        If another call has finished it meanwhile and removed its parts, returns the document.
        """
        tenant, upload_id = session.draft.tenant, session.upload_id
        async with self.begin(tenant) as work:
            if await work.sessions.find(upload_id) is None:
                return await _repeat(work, upload_id)
        await self._remove(session)
        if error.__cause__ is not None:
            log.error("upload.part_lost", extra={"tenant": tenant, "upload": upload_id})
        raise InvalidInputError(
            "CHECKSUM_MISMATCH",
            "the content does not have the declared SHA-256; start the upload again",
            sha256=session.sha256,
        ) from error

    async def _remove(self, session: Session) -> None:
        async with self.begin(session.draft.tenant) as work:
            keys = await work.sessions.remove(session.upload_id)
        for key in keys:
            await self.objects.delete(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireUploads:
    """Removes sessions that nobody has continued for their time, and their content."""

    begin: Begin
    sweeper: Sweeper
    objects: Objects

    async def run(self) -> int:
        """Removes expired sessions; returns their number.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the rest waits for the next sweep.
        """
        removed = 0
        while expired := await self.sweeper.list_expired_sessions(EXPIRED_AT_ONCE):
            for tenant, upload_id in expired:
                async with self.begin(tenant) as work:
                    keys = await work.sessions.remove(upload_id, only_expired=True)
                for key in keys:
                    await self.objects.delete(key)
                removed += 1
        return removed


def _check_content(sha256: str, size_bytes: int) -> None:
    if not SHA256.fullmatch(sha256):
        detail = "sha256 must be 64 characters of lower-case hex"
        violation = FieldViolation("sha256", detail)
        raise InvalidInputError("SHA256_INVALID", detail, fields=[violation])
    if size_bytes < 1:
        detail = "declare the size of the content in header.size_bytes; it has at least 1 byte"
        violation = FieldViolation("header.size_bytes", detail)
        raise InvalidInputError("EMPTY_DOCUMENT", detail, fields=[violation])


async def _check_pin(work: Work, draft: Draft, sha256: str) -> None:
    newest = await work.documents.find_newest(draft.name)
    if newest is None or not newest.entry.pinned:
        return
    if newest.version.is_same(draft.media_type, sha256):
        return
    # A delete ends the pin, also that of the collection before it has come to the document.
    if not await work.collection_deletions.includes(draft.name):
        raise pinned_error()


async def _is_finished(work: Work, session: Session) -> bool:
    """Whether the session became a version, and a crash prevented its removal."""
    return await work.uploads.find(Origin(request_id=session.upload_id)) is not None


async def _repeat(work: Work, upload_id: str) -> View:
    """The document of a finished session, which the caller may see."""
    upload = await work.uploads.find(Origin(request_id=upload_id))
    if upload is None or await work.documents.find_entry(upload.document) is None:
        raise _unknown_error()
    return await repeat(work, upload)


def _check_id(upload_id: str) -> None:
    if not _ID.fullmatch(upload_id):
        raise _unknown_error()


def _is_part(session: Session, content: bytearray) -> bool:
    """Whether content is enough for a part, or completes the upload."""
    completes = session.offset + len(content) == session.size_bytes
    return len(content) >= PART_MIN_BYTES or (completes and len(content) > 0)


def _check_fits(session: Session, added: int) -> None:
    if session.offset + added > session.size_bytes:
        raise _size_error(session, session.offset + added)


def _size_error(session: Session, received: int) -> InvalidInputError:
    return InvalidInputError(
        "SIZE_MISMATCH",
        f"the upload declares {session.size_bytes} bytes; {received} were received",
        size_bytes=session.size_bytes,
        received_bytes=received,
        offset=session.offset,
    )


def _offset_error(session: Session) -> ConflictError:
    return ConflictError(
        "UPLOAD_OFFSET",
        f"the upload has {session.offset} bytes; continue there",
        offset=session.offset,
        size_bytes=session.size_bytes,
    )


def _unknown_error() -> NotFoundError:
    return NotFoundError(
        "UPLOAD_UNKNOWN", "the upload has expired, is finished or was never started; start it again"
    )
