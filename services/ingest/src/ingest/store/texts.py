"""The stored text of one tenant's versions, which their chunks make up."""

from collections.abc import Sequence
from typing import Any, Final

from typing_extensions import override

from chassis.base.postgres import Transaction
from ingest.pieces import Piece
from ingest.store import rows
from ingest.usecases.rows import Extent
from ingest.usecases.tables import Texts

_OF_VERSION: Final = "tenant_id = %(tenant)s AND document = %(name)s AND version = %(number)s"
_LAST_PAGE: Final = "greatest(page, (page_breaks -> -1 ->> 1)::int)"

_EXTENT: Final = f"""
SELECT end_char, {_LAST_PAGE} AS last_page
FROM chunks WHERE {_OF_VERSION} ORDER BY ordinal DESC LIMIT 1
"""  # noqa: S608


def _bisect(condition: str) -> str:
    """The first chunk from which on a condition holds, or else the last one, as `found.ordinal`.

    A text may have 60,000 chunks; this reads 16 of them by the primary key. The limits keep the
    planner from reading all, which it takes for few before it has statistics.
    """
    return f"""
WITH RECURSIVE search(low, high) AS (
    (SELECT 0, ordinal FROM chunks WHERE {_OF_VERSION} ORDER BY ordinal DESC LIMIT 1)
    UNION ALL
    SELECT CASE WHEN {condition} THEN low ELSE ordinal + 1 END,
        CASE WHEN {condition} THEN ordinal ELSE high END
    FROM search CROSS JOIN LATERAL (
        SELECT * FROM chunks WHERE {_OF_VERSION} AND ordinal = (low + high) / 2 LIMIT 1
    ) AS middle
    WHERE low < high
), found AS (
    SELECT low AS ordinal FROM search WHERE low = high
)"""  # noqa: S608


# A page begins inside a chunk, or with one: only white space is between chunks.
_PAGE: Final = f"""{_bisect(f"{_LAST_PAGE} >= %(page)s")}
SELECT place.start FROM chunks CROSS JOIN LATERAL (
    SELECT start_char, page
    UNION ALL
    SELECT (page_break ->> 0)::int, (page_break ->> 1)::int
    FROM jsonb_array_elements(page_breaks) AS page_break
) AS place(start, page)
WHERE {_OF_VERSION} AND ordinal = (SELECT ordinal FROM found) AND place.page >= %(page)s
ORDER BY place.start LIMIT 1
"""  # noqa: S608

_PART: Final = f"""{_bisect("end_char > %(start)s")}
SELECT {rows.PIECE} FROM chunks
WHERE {_OF_VERSION}
    AND ordinal >= (SELECT ordinal - 1 FROM found)
    AND ordinal <= (SELECT ordinal FROM chunks
        WHERE {_OF_VERSION} AND ordinal >= (SELECT ordinal FROM found) AND end_char >= %(end)s
        ORDER BY ordinal LIMIT 1)
ORDER BY ordinal
"""  # noqa: S608


class PostgresTexts(Texts):
    """See `Texts`; for one tenant, in the given transaction."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def measure(self, name: str, number: int) -> Extent | None:
        found = await self._fetch_all(_EXTENT, name, number)
        return (
            Extent(length=found[0]["end_char"], last_page=found[0]["last_page"]) if found else None
        )

    @override
    async def find_page(self, name: str, number: int, page: int) -> int | None:
        found = await self._fetch_all(_PAGE, name, number, page=page)
        return found[0]["start"] if found else None

    @override
    async def list_pieces(self, name: str, number: int, start: int, end: int) -> Sequence[Piece]:
        found = await self._fetch_all(_PART, name, number, start=start, end=end)
        return [rows.piece(row) for row in found]

    async def _fetch_all(
        self, statement: str, name: str, number: int, **values: Any
    ) -> list[rows.Row]:
        names = {"tenant": self._tenant, "name": name, "number": number, **values}
        return await (await self._tx.execute(statement.encode(), names)).fetchall()
