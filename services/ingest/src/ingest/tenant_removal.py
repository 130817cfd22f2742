"""What ingest removes of a deleted tenant, and the answers to uploads that still wait for one."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from aquifer.auth.v1.tenant_deletion_pb2 import RemovedCount
from aquifer.ingest.v1.tenant_events_pb2 import TenantDocumentsRemoved
from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from chassis.base.tenants import tenant_deleted_error
from chassis.events.work import GuardedTransactions, TransactionWork
from chassis.process.tenant_removal import DiscardTenant, RemoveAll, TenantRemoval
from ingest.domain import Origin, Upload
from ingest.store import rows
from ingest.usecases import announce
from ingest.usecases.ports import Objects

OBJECTS_COUNTED: Final = 100
# A tenant has few uploads that wait, but many that were answered.
_REMOVE_UPLOADS: Final = f"""
DELETE FROM uploads u WHERE u.ctid = ANY(ARRAY(
    SELECT ctid FROM uploads WHERE tenant_id = %(tenant)s LIMIT %(limit)s))
RETURNING {rows.UPLOAD}
"""  # noqa: S608  (a constant of this package)

_REMOVE_FETCHES: Final = """
DELETE FROM fetches WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM fetches WHERE tenant_id = %(tenant)s LIMIT %(limit)s))
RETURNING source, request_id, upload
"""


def make_removal(
    transactions: GuardedTransactions, objects: Objects, dead_letters: DiscardTenant
) -> TenantRemoval:
    """The removal of tenants from ingest."""
    return TenantRemoval(
        transactions=transactions,
        dead_letters=dead_letters,
        make_report=_make_report,
        # First, because others look for due fetches.
        first={"fetches": _remove_fetches, "uploads": _remove_uploads},
        stores={"objects": _make_remove_objects(objects)},
    )


async def _remove_uploads(work: TransactionWork, limit: int) -> int:
    names = {"tenant": work.tenant, "limit": limit}
    removed = await (await work.tx.execute(_REMOVE_UPLOADS.encode(), names)).fetchall()
    for upload in map(rows.upload, removed):
        if upload.origin.source and not upload.result:
            _refuse(work, upload)
    return len(removed)


async def _remove_fetches(work: TransactionWork, limit: int) -> int:
    names = {"tenant": work.tenant, "limit": limit}
    removed = await (await work.tx.execute(_REMOVE_FETCHES, names)).fetchall()
    for row in removed:
        event = DocumentUploaded.FromString(bytes(row["upload"]))
        origin = Origin(
            source=row["source"],
            request_id=row["request_id"],
            correlation_id=event.correlation_id,
        )
        upload = Upload(
            origin=origin, document=event.document, version=0, sha256="", unchanged=False
        )
        _refuse(work, upload)
    return len(removed)


def _refuse(work: TransactionWork, upload: Upload) -> None:
    error = tenant_deleted_error()
    refused = replace(upload, result=error.reason, result_detail=error.detail)
    announce.send_refusal(work, work.tenant, refused)


def _make_remove_objects(objects: Objects) -> RemoveAll:
    async def remove_objects(tenant: str) -> AsyncIterator[int]:
        keys = await objects.list(tenant)
        for start in range(0, len(keys), OBJECTS_COUNTED):
            yield await _delete_all(objects, keys[start : start + OBJECTS_COUNTED])

    return remove_objects


async def _delete_all(objects: Objects, keys: Sequence[str]) -> int:
    for key in keys:
        await objects.delete(key)
    return len(keys)


def _make_report(tenant: str, removed: Mapping[str, int]) -> TenantDocumentsRemoved:
    counts = [RemovedCount(store=store, count=count) for store, count in sorted(removed.items())]
    return TenantDocumentsRemoved(tenant=tenant, removed=counts)
