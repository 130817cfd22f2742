"""Labels of the documents of one tenant."""

from collections.abc import Sequence
from typing import Any, Final

from typing_extensions import override

from chassis.base.postgres import Transaction
from ingest.labels import Labels
from ingest.store import rows
from ingest.usecases.tables import DocumentLabels

_LABEL: Final = f"""
UPDATE documents d SET labels = %(labels)s, own_labels = %(own)s,
    labels_order = CASE WHEN %(order)s > 0 THEN %(order)s
        ELSE greatest(d.labels_order + 1, {rows.NOW_NS}) END,
    labels_due_at = CASE WHEN %(due)s THEN clock_timestamp() ELSE d.labels_due_at END
WHERE d.tenant_id = %(tenant)s AND d.name = %(name)s
    AND (%(order)s = 0 OR d.labels_order < %(order)s)
RETURNING labels, own_labels, labels_order
"""  # noqa: S608

_LABEL_AGAIN: Final = f"""
UPDATE documents SET labels_order = greatest(labels_order + 1, {rows.NOW_NS}),
    labels_due_at = clock_timestamp()
WHERE tenant_id = %(tenant)s AND name = ANY(%(names)s)
"""  # noqa: S608

_LABELS_DUE: Final = """
SELECT name, labels, own_labels, labels_order FROM documents
WHERE tenant_id = %(tenant)s AND labels_due_at IS NOT NULL
    AND (cardinality(%(names)s::text[]) = 0 OR name = ANY(%(names)s))
ORDER BY labels_due_at LIMIT %(limit)s
"""

_CONFIRM_LABELS: Final = """
INSERT INTO documents AS d SELECT known.*
FROM unnest(%(names)b::text[], %(orders)b::bigint[]) AS heard(name, labels_order)
CROSS JOIN LATERAL (
    SELECT * FROM documents WHERE tenant_id = %(tenant)s AND name = heard.name LIMIT 1
) AS known
WHERE known.labels_order = heard.labels_order
ON CONFLICT (tenant_id, name) DO UPDATE SET labels_due_at = NULL
WHERE d.labels_order = excluded.labels_order
"""


class PostgresLabels(DocumentLabels):
    """See `DocumentLabels`; for one tenant, in the given transaction."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def put(
        self, name: str, names: tuple[str, ...], *, own: bool, order_ns: int, due: bool
    ) -> Labels | None:
        changed = await self._execute(
            _LABEL, name=name, labels=list(names), own=own, order=order_ns, due=due
        )
        row = await changed.fetchone()
        return rows.labels(row) if row else None

    @override
    async def put_again(self, names: Sequence[str]) -> None:
        await self._execute(_LABEL_AGAIN, names=list(names))

    @override
    async def list_due(self, names: Sequence[str], limit: int) -> Sequence[tuple[str, Labels]]:
        found = await self._execute(_LABELS_DUE, names=list(names), limit=limit)
        return [(row["name"], rows.labels(row)) for row in await found.fetchall()]

    @override
    async def confirm(self, labelled: Sequence[tuple[str, Labels]]) -> None:
        await self._execute(
            _CONFIRM_LABELS,
            names=[name for name, _ in labelled],
            orders=[labels.order for _, labels in labelled],
        )

    async def _execute(self, statement: str, **values: Any) -> Any:
        return await self._tx.execute(statement.encode(), {"tenant": self._tenant, **values})
