"""Why an upload, or another event of an upstream system, adds no version."""

from chassis.base.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    ForbiddenError,
    NotFoundError,
)
from chassis.base.labels import Held
from ingest.domain import Origin, Upload
from ingest.usecases.rows import Standing
from ingest.usecases.work import Work


class TenantLateError(Exception):
    """The tenant of an upload event is not known here yet; its event may still arrive."""


class AnsweredBeforeError(Exception):
    """The event was answered before, which is final for its id."""


class SupersededError(Exception):
    """A later event of the document was handled before; recorded, with its result."""


def check_tenant(origin: Origin, standing: Standing) -> Exception | None:
    """Checks the tenant of an upload event; for a call, its token was checked."""
    if not origin.source:
        return None
    if standing is Standing.UNKNOWN:
        return TenantLateError()
    if standing is Standing.SUSPENDED:
        return ForbiddenError(
            "TENANT_SUSPENDED", "the tenant is suspended; upload again after it is resumed"
        )
    return None


async def refuse_pinned(work: Work, origin: Origin) -> FailedPreconditionError | None:
    """Refuses an upload of other bytes; None for a repeat, which gets its answer again."""
    return None if await _is_repeat(work, origin) else pinned_error()


def pinned_error() -> FailedPreconditionError:
    """Refuses other bytes for a pinned document."""
    return FailedPreconditionError(
        "DOCUMENT_PINNED", "the document is pinned to its version; unpin it, then upload again"
    )


async def refuse_unknown_collection(work: Work, origin: Origin) -> NotFoundError | None:
    """Refuses an upload into a collection that was not created, or is deleted since.

    None for a repeat, which gets its answer again.
    """
    if await _is_repeat(work, origin):
        return None
    return NotFoundError(
        "COLLECTION_UNKNOWN", "the collection was not created; create it, then upload again"
    )


async def _is_repeat(work: Work, origin: Origin) -> bool:
    return origin.request_id != "" and await work.uploads.find(origin) is not None


def deleted_version_error(number: int) -> FailedPreconditionError:
    """Refuses to bring back a deleted version."""
    return FailedPreconditionError(
        "DOCUMENT_DELETED",
        f"version {number} was deleted with the document; upload its bytes again",
        version=number,
    )


def check_reuse(upload: Upload, document: str, sha256: str, held: Held) -> None:
    """Checks that a known request id was used for these bytes of this document.

    The error names the document of the upload, unless the sender may not see it.

    Raises:
        AlreadyExistsError: REQUEST_REUSED.
    """
    if upload.document != document or upload.sha256 not in ("", sha256):
        is_told = held is None or upload.document == document
        raise AlreadyExistsError(
            "REQUEST_REUSED",
            "this request id was used for another document or other bytes; use a new one",
            **({"document": upload.document, "version": upload.version} if is_told else {}),
        )
