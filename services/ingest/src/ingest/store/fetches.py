"""Uploads whose content another server has, waiting to be fetched."""

from typing import Final

from typing_extensions import override

from chassis.base.postgres import Transaction
from ingest.usecases.rows import Fetch
from ingest.usecases.tables import Fetches

_ADD: Final = """
INSERT INTO fetches (tenant_id, source, request_id, upload, stored_ns, trace_id)
VALUES (%(tenant)s, %(source)s, %(request_id)s, %(upload)s, %(stored_ns)s, %(trace_id)s)
ON CONFLICT DO NOTHING
"""

_TAKE: Final = """
UPDATE fetches SET attempt = attempt + 1,
    due_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
WHERE tenant_id = %(tenant)s AND source = %(source)s AND request_id = %(request_id)s
    AND due_at <= clock_timestamp()
RETURNING upload, stored_ns, trace_id, attempt,
    extract(epoch FROM clock_timestamp() - created_at) AS age_s
"""

_PUT_BACK: Final = """
UPDATE fetches SET attempt = %(attempt)s,
    due_at = clock_timestamp() + make_interval(secs => %(wait_s)s)
WHERE tenant_id = %(tenant)s AND source = %(source)s AND request_id = %(request_id)s
"""

_REMOVE: Final = """
DELETE FROM fetches
WHERE tenant_id = %(tenant)s AND source = %(source)s AND request_id = %(request_id)s
"""


class PostgresFetches(Fetches):
    """See `Fetches`; for one tenant, in the given transaction."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def add(self, fetch: Fetch) -> None:
        await self._tx.execute(
            _ADD,
            {
                **self._key(fetch.source, fetch.request_id),
                "upload": fetch.upload,
                "stored_ns": fetch.stored_ns,
                "trace_id": fetch.trace_id,
            },
        )

    @override
    async def count(self) -> int:
        statement = "SELECT count(*) AS waiting FROM fetches WHERE tenant_id = %s"
        row = await (await self._tx.execute(statement, [self._tenant])).fetchone()
        return int(row["waiting"]) if row else 0

    @override
    async def take(self, source: str, request_id: str, lease_s: float) -> Fetch | None:
        names = {**self._key(source, request_id), "lease_s": lease_s}
        row = await (await self._tx.execute(_TAKE, names)).fetchone()
        if row is None:
            return None
        return Fetch(
            tenant=self._tenant,
            source=source,
            request_id=request_id,
            upload=bytes(row["upload"]),
            stored_ns=row["stored_ns"],
            trace_id=row["trace_id"],
            attempt=row["attempt"],
            age_s=float(row["age_s"]),
        )

    @override
    async def put_back(self, fetch: Fetch, wait_s: float, *, attempt: int) -> None:
        key = self._key(fetch.source, fetch.request_id)
        await self._tx.execute(_PUT_BACK, {**key, "wait_s": wait_s, "attempt": attempt})

    @override
    async def remove(self, fetch: Fetch) -> None:
        await self._tx.execute(_REMOVE, self._key(fetch.source, fetch.request_id))

    def _key(self, source: str, request_id: str) -> dict[str, object]:
        return {"tenant": self._tenant, "source": source, "request_id": request_id}
