"""Duplicates among the documents of one tenant."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from psycopg.types.json import Jsonb
from typing_extensions import override

from chassis.base.postgres import Transaction
from ingest.notes import Note
from ingest.store import rows
from ingest.usecases.documents.duplicates import SAME_MAX, Duplicates, Pair

# Signatures with one band that are compared.
BAND_MAX: Final = 16

# Whoever may see a document may see the others that it names.
_SHOWN: Final = "(d.labels = '{}' OR own.labels <> '{}' AND own.labels <@ d.labels)"

# Before `_SAME`: a plan for any tenant, as for `PostgresChecks`.
_PLAN_FOR_ANY_TENANT: Final = "SET LOCAL plan_cache_mode = force_generic_plan"


def _same(place: int, condition: str) -> str:
    """Documents with the bytes of a given one, whose names are in a range, in the index's order.

    The LIMIT on the key of a document makes the planner look it up.
    """
    return f"""
        (SELECT {place} AS place, same.document FROM versions same
        CROSS JOIN LATERAL (
            SELECT * FROM documents
            WHERE tenant_id = %(tenant)s AND name = same.document LIMIT 1
        ) AS d
        WHERE same.tenant_id = %(tenant)s AND same.sha256 = own.sha256
            AND same.state IN ('ACCEPTED', 'PREPARED', 'INDEXED')
            AND same.document <> own.name AND {condition}
            AND d.latest_version = same.version AND d.upload_order > {rows.CUT} AND {_SHOWN}
        ORDER BY split_part(same.document, '/', 2), same.document LIMIT %(limit)s)"""  # noqa: S608


_RANGES: Final = " UNION ALL ".join(
    (
        _same(0, "same.document > own.prefix || '/' AND same.document < own.prefix || '0'"),
        _same(1, "same.document < own.prefix || '/'"),
        _same(1, "same.document > own.prefix || '0'"),
    )
)
# The limit of each range keeps the statement short if many documents have the same bytes.
_SAME: Final = f"""
SELECT own.name, array_agg(twin.document ORDER BY twin.place, twin.document) AS documents
FROM (
    SELECT given.*, d.labels, 'collections/' || split_part(d.name, '/', 2) || '/documents' AS prefix
    FROM unnest(%(names)b::text[], %(sha256s)b::text[]) AS given(name, sha256)
    CROSS JOIN LATERAL (
        SELECT * FROM documents WHERE tenant_id = %(tenant)s AND name = given.name LIMIT 1
    ) AS d
) AS own
CROSS JOIN LATERAL (
    SELECT * FROM ({_RANGES}) AS found ORDER BY place, document LIMIT %(limit)s
) AS twin
GROUP BY own.name
"""  # noqa: S608


_KEEP: Final = """
WITH kept AS (
    INSERT INTO signatures (tenant_id, document, version, signature, bands)
    VALUES (%(tenant)s, %(document)s, %(number)s, %(signature)b, %(bands)b::bigint[])
    RETURNING signature_id
)
INSERT INTO signature_bands (tenant_id, band, signature_id)
SELECT DISTINCT %(tenant)s, band, signature_id FROM kept, unnest(%(bands)b::bigint[]) AS band
"""

# The limit of each band keeps the statement short if many documents have almost the same text. Only
# ids are read for each band, since alike texts have all bands in common.
_PAIRS: Final = f"""
WITH own AS (
    SELECT s.*, d.labels
    FROM unnest(%(names)b::text[], %(numbers)b::bigint[]) AS given(name, number)
    CROSS JOIN LATERAL (
        SELECT * FROM signatures
        WHERE tenant_id = %(tenant)s AND document = given.name AND version = given.number LIMIT 1
    ) AS s
    CROSS JOIN LATERAL (
        SELECT * FROM documents WHERE tenant_id = %(tenant)s AND name = given.name LIMIT 1
    ) AS d
), pair AS (
    SELECT DISTINCT own.signature_id AS own_id, found.signature_id AS other_id
    FROM own CROSS JOIN unnest(own.bands) AS own_band(band)
    CROSS JOIN LATERAL (
        SELECT b.signature_id FROM signature_bands b
        WHERE b.tenant_id = %(tenant)s AND b.band = own_band.band
        ORDER BY b.signature_id LIMIT %(limit)s
    ) AS found
    WHERE found.signature_id <> own.signature_id
)
SELECT own.document, own.signature, other.document AS other, other.signature AS other_signature
FROM pair JOIN own ON own.signature_id = pair.own_id
CROSS JOIN LATERAL (
    SELECT s.document, s.signature FROM signatures s
    JOIN documents d ON d.tenant_id = s.tenant_id AND d.name = s.document
        AND d.latest_version = s.version AND d.upload_order > {rows.CUT} AND {_SHOWN}
    JOIN versions v ON v.tenant_id = s.tenant_id AND v.document = s.document
        AND v.version = s.version AND v.state IN ('PREPARED', 'INDEXED')
    WHERE s.tenant_id = %(tenant)s AND s.signature_id = pair.other_id
        AND s.document <> own.document LIMIT 1
) AS other
"""  # noqa: S608

# ANY leaves few versions to compare with each of the given names, if all of the tenant are read.
_ADD_NOTES: Final = """
UPDATE versions v SET notes = v.notes || jsonb_build_array(given.note)
FROM unnest(%(names)b::text[], %(numbers)b::bigint[], %(notes)b::jsonb[])
    AS given(name, number, note)
WHERE v.tenant_id = %(tenant)s AND v.document = ANY(%(names)b::text[])
    AND v.document = given.name AND v.version = given.number
"""


class PostgresDuplicates(Duplicates):
    """See `Duplicates`; for one tenant, in the given transaction."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def list_same(self, digests: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
        await self._tx.execute(_PLAN_FOR_ANY_TENANT)
        found = await self._execute(
            _SAME, names=list(digests), sha256s=list(digests.values()), limit=SAME_MAX
        )
        return {row["name"]: row["documents"] for row in await found.fetchall()}

    @override
    async def keep_signature(
        self, document: str, number: int, signature: bytes, bands: Sequence[int]
    ) -> None:
        values = {"number": number, "signature": signature, "bands": list(bands)}
        await self._execute(_KEEP, document=document, **values)

    @override
    async def list_pairs(self, versions: Sequence[tuple[str, int]]) -> Sequence[Pair]:
        found = await self._execute(
            _PAIRS,
            names=[name for name, _ in versions],
            numbers=[number for _, number in versions],
            limit=BAND_MAX,
        )
        return [
            Pair(
                document=row["document"],
                signature=bytes(row["signature"]),
                other=row["other"],
                other_signature=bytes(row["other_signature"]),
            )
            for row in await found.fetchall()
        ]

    @override
    async def add_notes(self, notes: Mapping[tuple[str, int], Note]) -> None:
        await self._execute(
            _ADD_NOTES,
            names=[name for name, _ in notes],
            numbers=[number for _, number in notes],
            notes=[Jsonb(note) for note in notes.values()],
        )

    async def _execute(self, statement: str, **values: Any) -> Any:
        return await self._tx.execute(statement.encode(), {"tenant": self._tenant, **values})
