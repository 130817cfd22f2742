"""Uploads that can be repeated, with their results, and tenants that may upload."""

from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from chassis.base.postgres import Transaction
from ingest.domain import Origin, Upload, UploadResult, Verdict
from ingest.store import rows
from ingest.usecases.rows import Standing
from ingest.usecases.tables import Tenants, Uploads

_ADD: Final = """
INSERT INTO uploads (tenant_id, source, request_id, document, version, sha256, correlation_id,
    unchanged, result, result_detail)
VALUES (%(tenant)s, %(source)s, %(request_id)s, %(document)s, %(version)s, %(sha256)s,
    %(correlation_id)s, %(unchanged)s, %(result)s, %(result_detail)s)
ON CONFLICT DO NOTHING
"""

_FIND: Final = f"""
SELECT {rows.UPLOAD} FROM uploads u
WHERE u.tenant_id = %(tenant)s AND u.source = %(source)s AND u.request_id = %(request_id)s
"""  # noqa: S608

SETTLE: Final = f"""
UPDATE uploads u SET result = %(result)s, result_detail = %(detail)s
WHERE u.tenant_id = %(tenant)s AND u.document = %(name)s
    AND u.version >= %(first)s AND u.version <= %(last)s AND u.result = '' AND u.source <> ''
RETURNING {rows.UPLOAD}
"""  # noqa: S608


def standing_of(suspended: bool | None) -> Standing:  # noqa: FBT001  (a column)
    """The standing that a tenant's row means; None if it has no row."""
    if suspended is None:
        return Standing.UNKNOWN
    return Standing.SUSPENDED if suspended else Standing.ACTIVE


class PostgresUploads(Uploads):
    """See `Uploads`; for one tenant, in the given transaction."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def add(self, upload: Upload) -> bool:
        cursor = await self._tx.execute(
            _ADD,
            {
                "tenant": self._tenant,
                "source": upload.origin.source,
                "request_id": upload.origin.request_id,
                "document": upload.document,
                "version": upload.version,
                "sha256": upload.sha256,
                "correlation_id": upload.origin.correlation_id,
                "unchanged": upload.unchanged,
                "result": upload.result,
                "result_detail": upload.result_detail,
            },
        )
        return cursor.rowcount == 1

    @override
    async def find(self, origin: Origin) -> Upload | None:
        names = {
            "tenant": self._tenant,
            "source": origin.source,
            "request_id": origin.request_id,
        }
        row = await (await self._tx.execute(_FIND.encode(), names)).fetchone()
        return rows.upload(row) if row else None

    @override
    async def settle(self, document: str, number: int, verdict: Verdict) -> Sequence[Upload]:
        return await self._settle(document, (number, number), verdict.reason, verdict.detail)

    @override
    async def settle_deleted(self, document: str, number: int) -> Sequence[Upload]:
        return await self._settle(document, (1, number), UploadResult.DELETED.value, "")

    async def _settle(
        self, document: str, versions: tuple[int, int], result: str, detail: str
    ) -> Sequence[Upload]:
        first, last = versions
        names = {
            "tenant": self._tenant,
            "name": document,
            "first": first,
            "last": last,
            "result": result,
            "detail": detail,
        }
        cursor = await self._tx.execute(SETTLE.encode(), names)
        return [rows.upload(row) for row in await cursor.fetchall()]


class PostgresTenants(Tenants):
    """See `Tenants`; for one tenant, in the given transaction."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def find_standing(self) -> Standing:
        statement = "SELECT suspended FROM tenants WHERE tenant_id = %s"
        row = await (await self._tx.execute(statement, [self._tenant])).fetchone()
        return standing_of(row["suspended"] if row else None)

    @override
    async def admit(self) -> None:
        await self._tx.execute(
            "INSERT INTO tenants (tenant_id, suspended) VALUES (%s, false) ON CONFLICT DO NOTHING",
            [self._tenant],
        )

    @override
    async def suspend(self, sequence: int) -> None:
        await self._set(sequence, suspended=True)

    @override
    async def resume(self, sequence: int) -> None:
        await self._set(sequence, suspended=False)

    async def _set(self, sequence: int, *, suspended: bool) -> None:
        await self._tx.execute(
            "INSERT INTO tenants (tenant_id, suspended, sequence) VALUES (%s, %s, %s)"
            " ON CONFLICT (tenant_id) DO UPDATE"
            " SET suspended = EXCLUDED.suspended, sequence = EXCLUDED.sequence"
            " WHERE tenants.sequence <= EXCLUDED.sequence",
            [self._tenant, suspended, sequence],
        )
