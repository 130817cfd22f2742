"""An upload becomes durable: bytes first, then one transaction, and only then an answer."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from chassis.base.errors import (
    AlreadyExistsError,
    ConflictError,
    DataLossError,
    ForbiddenError,
    InvalidInputError,
    OverloadedError,
)
from ingest.domain import (
    Draft,
    Object,
    Pace,
    Reference,
    State,
    Upload,
    UploadResult,
    Version,
    View,
    work_s,
)
from ingest.usecases import facts
from ingest.usecases.fresh import FreshVersions
from ingest.usecases.ports import Monotonic, Objects, Standing, Units, Work
from ingest.usecases.repeat_upload import repeat

BACKLOG_RETRY_S: Final = 5.0
_COUNT_KEPT_S: Final = 1.0
_FULL_KEPT_S: Final = 0.1
_TENANTS_MAX: Final = 10_000


class TenantLateError(Exception):
    """An upload event came before its tenant was heard of; it may be under way."""


class _RepeatedError(Exception):
    """This upload is known; nothing of the transaction may stay."""


@dataclass(slots=True)
class _Counted:
    unfinished: int
    at: float


@dataclass(slots=True, kw_only=True)
class Admission:
    """Bounds the unfinished versions of a tenant.

    Counted at most once a second, when full ten times; in between, what this process accepts is
    added. So several processes overshoot by what each accepts within a second.
    """

    units: Units
    unfinished_max: int
    clock: Monotonic
    _counts: dict[str, _Counted] = field(default_factory=dict)

    async def check(self, tenant: str) -> None:
        """Let one more in.

        Raises:
            OverloadedError: BACKLOG_FULL.
        """
        counted = self._counts.get(tenant)
        if counted is None or self._is_old(counted):
            counted = await self._count(tenant)
        if counted.unfinished >= self.unfinished_max:
            raise OverloadedError(
                "BACKLOG_FULL",
                f"{self.unfinished_max} documents of the tenant are unfinished",
                retry_after_s=BACKLOG_RETRY_S,
                limit=self.unfinished_max,
            )
        counted.unfinished += 1

    def _is_old(self, counted: _Counted) -> bool:
        full = counted.unfinished >= self.unfinished_max
        return self.clock() - counted.at > (_FULL_KEPT_S if full else _COUNT_KEPT_S)

    async def _count(self, tenant: str) -> _Counted:
        async with self.units(tenant) as work:
            unfinished = await work.documents.unfinished()
        if len(self._counts) >= _TENANTS_MAX:
            self._counts.clear()
        counted = self._counts[tenant] = _Counted(unfinished, self.clock())
        return counted


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptDocument:
    """Stores an upload and starts its way to the index.

    The same bytes as the newest version, unless that failed or is deleted, are that version; so is
    a repeated upload the version it made. An object that a crash leaves without a row is swept.
    """

    units: Units
    objects: Objects
    admission: Admission
    fresh: FreshVersions
    new_key: Callable[[str, str], str]
    pace: Pace
    max_bytes: int

    async def __call__(
        self,
        draft: Draft,
        content: bytes | AsyncIterator[bytes],
        *,
        expected: Reference | None = None,
    ) -> View:
        """The document as it was accepted; from here on it ends with a result.

        Raises:
            InvalidInputError: EMPTY_DOCUMENT, DOCUMENT_TOO_LARGE.
            DataLossError: REFERENCE_MISMATCH, the bytes are not the `expected` ones.
            AlreadyExistsError: REQUEST_REUSED.
            ForbiddenError: TENANT_SUSPENDED, for an upload event.
            OverloadedError: BACKLOG_FULL, STORAGE_FULL.
            TenantLateError: for an upload event.
        """
        await self.admission.check(draft.tenant)
        key = self.new_key(draft.tenant, draft.name)
        put = await self.objects.put(key, content, max_bytes=self.max_bytes)
        stored = Object(key=key, size_bytes=put.size_bytes, sha256=put.sha256)
        try:
            _check_bytes(stored, expected)
            view = await self._record(draft, stored)
        except (
            InvalidInputError,
            DataLossError,
            AlreadyExistsError,
            ForbiddenError,
            TenantLateError,
        ):
            await self.objects.delete(key)
            raise
        if view.version.stored.key == key:
            self.fresh.put(view.version)
        else:
            await self.objects.delete(key)
        return view

    async def _record(self, draft: Draft, stored: Object) -> View:
        try:
            async with self.units(draft.tenant) as work:
                return await self._place(work, draft, stored)
        except _RepeatedError:
            async with self.units(draft.tenant) as work:
                upload = await work.uploads.find(draft.origin)
                if upload is None:
                    raise _forgotten() from None
                if not draft.origin.source:
                    _check_reuse(draft, stored, upload)
                return await repeat(work, upload)

    async def _place(self, work: Work, draft: Draft, stored: Object) -> View:
        entry, standing = await work.documents.claim(draft.name)
        if draft.origin.source:
            _check_tenant(standing)
        newest = None
        if entry.latest_version:
            newest = await work.documents.version(draft.name, entry.latest_version)
        if newest is not None and newest.is_same(stored.sha256):
            await _join(work, draft, newest)
            return View(entry=entry, version=newest)
        wait_s = self.pace.wait_s(0, work_s(State.ACCEPTED, stored.size_bytes, 0))
        version = await work.documents.add(draft, entry.next_version, stored, wait_s)
        if version is None:
            raise _RepeatedError
        work.tell(facts.accepted(version))
        return View(entry=replace(entry, latest_version=version.number), version=version)


def _check_bytes(stored: Object, expected: Reference | None) -> None:
    if expected and (stored.sha256, stored.size_bytes) != (expected.sha256, expected.size_bytes):
        raise DataLossError(
            "REFERENCE_MISMATCH", "the bytes referred to have another checksum or size"
        )
    if not stored.size_bytes:
        raise InvalidInputError("EMPTY_DOCUMENT", "the document has no bytes")


def _check_tenant(standing: Standing) -> None:
    if standing is Standing.UNKNOWN:
        raise TenantLateError
    if standing is Standing.SUSPENDED:
        raise ForbiddenError("TENANT_SUSPENDED", "the tenant is suspended")


async def _join(work: Work, draft: Draft, newest: Version) -> None:
    """The bytes are there already: the upload shares the version, and its result."""
    upload = Upload(
        origin=draft.origin,
        document=newest.document,
        version=newest.number,
        sha256=newest.stored.sha256,
        unchanged=True,
    )
    if newest.state is State.INDEXED and draft.origin.source:
        upload = replace(upload, result=UploadResult.INDEXED)
    if draft.origin.request_id and not await work.uploads.add(upload):
        raise _RepeatedError
    if upload.result:
        work.tell(facts.result(newest, upload))
    elif draft.origin.source:
        work.tell(facts.joined(newest, draft.origin))


def _forgotten() -> ConflictError:
    return ConflictError("REQUEST_FORGOTTEN", "the request id expired at this very moment")


def _check_reuse(draft: Draft, stored: Object, upload: Upload) -> None:
    if upload.document != draft.name or upload.sha256 not in ("", stored.sha256):
        raise AlreadyExistsError(
            "REQUEST_REUSED",
            "this request id came with another document or other bytes before",
            document=upload.document,
            version=upload.version,
        )
