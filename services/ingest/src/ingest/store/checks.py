"""Comparison of bytes with the stored documents of one tenant."""

from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from chassis.base.postgres import Transaction
from ingest.checks import Check, Checked
from ingest.labels import NO_LABELS
from ingest.store import rows
from ingest.usecases.tables import Checks

# Before `_COMPARE`: a plan for any tenant. For a tenant without statistics the planner expects one
# version, and reads all of them for each name.
_PLAN_FOR_ANY_TENANT: Final = "SET LOCAL plan_cache_mode = force_generic_plan"

# Every row is looked up by an index: without LIMIT the planner may read all documents instead.
_COMPARE: Final = f"""
SELECT newest.*, twin.document AS duplicate_of
FROM unnest(%(names)b::text[], %(sha256s)b::text[]) WITH ORDINALITY AS given(name, sha256, place)
LEFT JOIN LATERAL (
    SELECT {rows.VERSION}, d.labels, d.own_labels, d.labels_order FROM documents d
    JOIN versions v ON v.tenant_id = d.tenant_id AND v.document = d.name
        AND v.version = d.latest_version
    WHERE d.tenant_id = %(tenant)s AND d.name = given.name
        AND d.latest_version > d.tombstone_version AND d.upload_order > {rows.CUT} LIMIT 1
) AS newest ON true
LEFT JOIN LATERAL (
    SELECT same.document FROM versions same
    JOIN documents d ON d.tenant_id = same.tenant_id AND d.name = same.document
        AND d.latest_version = same.version AND d.upload_order > {rows.CUT}
    WHERE same.tenant_id = %(tenant)s AND same.sha256 = given.sha256
        AND same.state IN ('ACCEPTED', 'PREPARED', 'INDEXED')
        AND split_part(same.document, '/', 2) = split_part(given.name, '/', 2)
        AND same.document <> given.name
    ORDER BY same.document LIMIT 1
) AS twin ON true
ORDER BY given.place
"""  # noqa: S608


class PostgresChecks(Checks):
    """See `Checks`; for one tenant, in the given transaction."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def compare(self, checks: Sequence[Check]) -> Sequence[Checked]:
        await self._tx.execute(_PLAN_FOR_ANY_TENANT)
        found = await self._tx.execute(
            _COMPARE.encode(),
            {
                "tenant": self._tenant,
                "names": [check.name for check in checks],
                "sha256s": [check.sha256 for check in checks],
            },
        )
        return [
            Checked(
                check=check,
                newest=rows.version(row) if row["document"] else None,
                labels=rows.labels(row) if row["document"] else NO_LABELS,
                duplicate_of=row["duplicate_of"] or "",
            )
            for check, row in zip(checks, await found.fetchall(), strict=True)
        ]
