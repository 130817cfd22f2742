"""Vectors of passages under several profiles, inside one transaction of one tenant."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from chassis.base.postgres import Transaction
from query.domain import Vector

_PUT: Final = """
INSERT INTO passage_vectors (tenant_id, point_id, profile, vector)
SELECT %(tenant)s, given.point_id, %(profile)s, given.vector
FROM unnest(%(point_ids)b::uuid[], %(vectors)b::bytea[]) AS given(point_id, vector)
ON CONFLICT (tenant_id, point_id, profile) DO UPDATE SET vector = excluded.vector
"""

# A vector of the live profile moves into the row of its passage, where that of the removed one was.
_REMOVE: Final = """
WITH page AS (
    SELECT point_id FROM passages
    WHERE tenant_id = %(tenant)s AND (%(after)s::uuid IS NULL OR point_id > %(after)s)
    ORDER BY point_id LIMIT %(limit)s FOR UPDATE
), moved AS (
    UPDATE passages
    SET vector_profile = %(live)s, vector = (
        SELECT kept.vector FROM passage_vectors AS kept
        WHERE kept.tenant_id = %(tenant)s AND kept.point_id = passages.point_id
            AND kept.profile = %(live)s)
    FROM page
    WHERE passages.tenant_id = %(tenant)s AND passages.point_id = page.point_id
        AND vector_profile = %(profile)s
    RETURNING passages.point_id
), removed AS (
    DELETE FROM passage_vectors
    WHERE tenant_id = %(tenant)s AND point_id IN (SELECT point_id FROM page)
        AND (profile = %(profile)s
             OR profile = %(live)s AND point_id IN (SELECT point_id FROM moved))
)
SELECT point_id AS last FROM page ORDER BY point_id DESC LIMIT 1
"""


async def put_vectors(
    tx: Transaction, tenant: str, profile: str, vectors: Mapping[UUID, Vector]
) -> None:
    """See `Rows.put_vectors`."""
    await tx.execute(
        _PUT,
        {
            "tenant": tenant,
            "profile": profile,
            "point_ids": list(vectors),
            "vectors": [vector.astype("<f4").tobytes() for vector in vectors.values()],
        },
    )


async def remove_vectors(
    tx: Transaction, tenant: str, profile: str, live: str, *, after: UUID | None, limit: int
) -> UUID | None:
    """See `Rows.remove_vectors`."""
    values = {
        "tenant": tenant,
        "profile": profile,
        "live": live,
        "after": after,
        "limit": limit,
    }
    row = await (await tx.execute(_REMOVE, values)).fetchone()
    return row["last"] if row else None
