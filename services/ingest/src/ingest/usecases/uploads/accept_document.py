"""Accepting an upload: it is answered only after it is durable."""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Final

from chassis.base.errors import (
    AlreadyExistsError,
    DataLossError,
    FailedPreconditionError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
)
from chassis.base.labels import held_labels
from ingest.domain import Draft, Object, Reference, View
from ingest.usecases.ports import Objects, Passwords, Sizes
from ingest.usecases.uploads.admission import Admission
from ingest.usecases.uploads.fresh import FreshVersions
from ingest.usecases.uploads.record_uploads import Incoming, RecordUploads
from ingest.usecases.uploads.refusals import AnsweredBeforeError, SupersededError, TenantLateError
from ingest.usecases.work import Trace

# Bytes up to this size are stored with the version, in the same transaction.
INLINE_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptDocument:
    """Stores an upload and starts its processing.

    An upload with the bytes of the newest version gets that version, unless it has failed or is
    deleted. A repeated upload gets the version of the first one. Bytes of more than
    `INLINE_MAX_BYTES` are written to the object store first; if a crash leaves an object without a
    row, the sweep removes it. A password is stored with the version, sealed, and removed in the
    transaction that ends the need of it: the version is parsed, failed, superseded or deleted.
    """

    objects: Objects
    admission: Admission
    passwords: Passwords
    record: RecordUploads
    fresh: FreshVersions
    make_key: Callable[[str, str], str]
    sizes: Sizes

    async def run(
        self,
        draft: Draft,
        content: bytes | AsyncIterator[bytes],
        *,
        expected: Reference | None = None,
        trace: Trace = None,
        restored: int = 0,
    ) -> View:
        """Accepts an upload; returns its document. Each accepted upload gets a result later.

        For a roll back, `restored` is the version that had these bytes.

        Raises:
            InvalidInputError: EMPTY_DOCUMENT, DOCUMENT_TOO_LARGE.
            DataLossError: REFERENCE_MISMATCH, the bytes differ from `expected`.
            AlreadyExistsError: REQUEST_REUSED.
            ForbiddenError: LABELS_FORBIDDEN; TENANT_SUSPENDED, for an upload event.
            NotFoundError: COLLECTION_UNKNOWN.
            FailedPreconditionError: DOCUMENT_PINNED; PASSWORDS_OFF; COLLECTION_DELETED, for an
                upload event; DOCUMENT_DELETED, for a roll back.
            OverloadedError: BACKLOG_FULL, STORAGE_FULL.
            TenantLateError, AnsweredBeforeError, SupersededError: for an upload event.
        """
        if draft.password:
            self.passwords.check()
        await self.admission.admit(draft.tenant)
        draft = replace(draft, lane=self.admission.choose_lane(draft.tenant, draft.lane))
        begun, rest = await _begin_reading(content)
        if rest is None:
            digest = hashlib.sha256(begun).hexdigest()
            stored = Object(key="", size_bytes=len(begun), sha256=digest)
            _check_bytes(stored, expected)
            view = await self.record.run(
                Incoming(
                    draft=draft,
                    held=held_labels(),
                    stored=stored,
                    content=begun,
                    trace=trace,
                    restored=restored,
                )
            )
            self.fresh.put(view.version)
            return view
        return await self._accept_object(draft, _chain(begun, rest), expected, trace, restored)

    async def _accept_object(
        self,
        draft: Draft,
        content: AsyncIterator[bytes],
        expected: Reference | None,
        trace: Trace,
        restored: int,
    ) -> View:
        key = self.make_key(draft.tenant, draft.name)
        limit_bytes = self.sizes.find(draft.media_type, draft.file_name)
        put = await self.objects.put(key, content, max_bytes=limit_bytes)
        stored = Object(key=key, size_bytes=put.size_bytes, sha256=put.sha256)
        try:
            _check_bytes(stored, expected)
            view = await self.record.run(
                Incoming(
                    draft=draft,
                    held=held_labels(),
                    stored=stored,
                    content=None,
                    trace=trace,
                    restored=restored,
                )
            )
        except (
            InvalidInputError,
            DataLossError,
            AlreadyExistsError,
            FailedPreconditionError,
            ForbiddenError,
            NotFoundError,
            TenantLateError,
            AnsweredBeforeError,
            SupersededError,
        ):
            await self.objects.delete(key)
            raise
        if view.version.stored.key == key:
            self.fresh.put(view.version)
        else:
            await self.objects.delete(key)
        return view


async def _begin_reading(
    content: bytes | AsyncIterator[bytes],
) -> tuple[bytes, AsyncIterator[bytes] | None]:
    """Reads the whole content if it fits into a row; otherwise only its beginning."""
    if isinstance(content, bytes):
        return (content, None) if len(content) <= INLINE_MAX_BYTES else (b"", _iterate(content))
    begun = bytearray()
    async for piece in content:
        begun += piece
        if len(begun) > INLINE_MAX_BYTES:
            return bytes(begun), content
    return bytes(begun), None


async def _iterate(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _chain(begun: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield begun
    async for piece in rest:
        yield piece


def _check_bytes(stored: Object, expected: Reference | None) -> None:
    if expected and (stored.sha256, stored.size_bytes) != (expected.sha256, expected.size_bytes):
        raise DataLossError(
            "REFERENCE_MISMATCH",
            "the referenced file has another checksum or size; upload it again with the right ones",
        )
    if not stored.size_bytes:
        raise InvalidInputError("EMPTY_DOCUMENT", "the document has no bytes; send its content")
