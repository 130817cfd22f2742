"""Counts live documents by the values of their fields."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from typing_extensions import override

from chassis.base.postgres import Database
from query.filters.facets import FacetField, Facets
from query.names import name_collections
from query.store.filters import condition
from query.usecases.count_facets import Counted, CountFacets, Facet

# More take longer than anybody waits for.
DOCUMENTS_MAX: Final = 100_000

_COUNT: Final = """
WITH counted AS MATERIALIZED (
    SELECT known.collection, known.labels, described.metadata
    FROM documents AS known
    CROSS JOIN LATERAL (
        SELECT known.document AS document, known.live_version AS version
    ) AS passage
    JOIN descriptions AS described ON described.tenant_id = %(tenant)s
        AND described.document = known.document AND described.version = known.live_version
    WHERE known.tenant_id = %(tenant)s AND known.live_version > known.tombstone_version
        AND (%(held)s::text[] IS NULL OR known.labels = '{{}}' OR known.labels && %(held)s)
        AND (%(collections)s::text[] = '{{}}' OR known.collection = ANY(%(collections)s))
        AND {where}
    LIMIT %(most)s
), valued AS (
    SELECT place, value, count(*) AS documents FROM counted
    CROSS JOIN unnest(%(names)s::text[], %(keys)s::text[])
        WITH ORDINALITY AS asked(name, key, place)
    CROSS JOIN LATERAL (SELECT DISTINCT value FROM jsonb_array_elements(CASE
        WHEN key IS NOT NULL THEN CASE jsonb_typeof(metadata -> key)
            WHEN 'array' THEN metadata -> key ELSE jsonb_path_query_array(metadata -> key, '$') END
        WHEN name = 'labels' THEN to_jsonb(labels)
        ELSE jsonb_build_array(substr(collection, 13)) END) AS elements(value)) AS each
    GROUP BY place, value
), ranked AS (
    SELECT *, count(*) OVER of_place AS distinct_values,
           row_number() OVER (PARTITION BY place ORDER BY documents DESC, value) AS nth
    FROM valued WINDOW of_place AS (PARTITION BY place)
)
SELECT whole.documents AS counted, place, value, ranked.documents, distinct_values
FROM (SELECT count(*) AS documents FROM counted) AS whole
LEFT JOIN ranked ON nth <= %(limit)s ORDER BY place, nth
"""


class PostgresFacets(CountFacets):
    """See `CountFacets`; one statement under row-level security."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @override
    async def run(self, asked: Facets) -> Counted:
        values: dict[str, Any] = {}
        where = "true" if asked.where is None else condition(asked.where, values)
        values |= {
            "tenant": asked.tenant,
            "held": None if asked.held is None else sorted(asked.held),
            "collections": sorted(name_collections(asked.collection, asked.collections)),
            "most": DOCUMENTS_MAX + 1,
            "names": [field.name for field in asked.fields],
            "keys": [field.key for field in asked.fields],
            "limit": asked.limit,
        }
        async with self._database.transaction(asked.tenant) as tx:
            cursor = await tx.execute(_COUNT.format(where=where).encode(), values)
            rows = await cursor.fetchall()
        found = {
            place: list(some)
            for place, some in groupby(rows, key=lambda row: row["place"])
            if place is not None
        }
        counted = int(rows[0]["counted"])
        return Counted(
            facets=[
                _facet(field, found.get(place, [])) for place, field in enumerate(asked.fields, 1)
            ],
            documents=min(counted, DOCUMENTS_MAX),
            partial=counted > DOCUMENTS_MAX,
        )


def _facet(field: FacetField, rows: Sequence[dict[str, Any]]) -> Facet:
    return Facet(
        field=field,
        values=[(row["value"], row["documents"]) for row in rows],
        distinct=rows[0]["distinct_values"] if rows else 0,
    )
