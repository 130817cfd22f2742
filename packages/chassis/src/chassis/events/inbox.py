"""Records which events were handled: one compact row each, committed with their effect."""

from collections.abc import Sequence
from uuid import UUID

from chassis.base.postgres import Database, Transaction
from chassis.events.delivery import Delivery
from chassis.events.envelope import E, derive_id

FORGET_BATCH = 5_000


async def record(
    tx: Transaction, tenant: str, deliveries: Sequence[Delivery[E]]
) -> Sequence[Delivery[E]]:
    """Records events in one statement; returns those that were not recorded before.

    Waits if another open transaction has recorded one of them.
    """
    keys: dict[UUID, Delivery[E]] = {}
    for delivery in deliveries:
        keys.setdefault(_key(delivery), delivery)
    # Sorted, so that two transactions with the same events cannot deadlock.
    cursor = await tx.execute(
        "INSERT INTO inbox (tenant_id, key) SELECT %s, unnest(%b::uuid[])"
        " ON CONFLICT DO NOTHING RETURNING key",
        [tenant, sorted(keys)],
    )
    new = {row["key"] for row in await cursor.fetchall()}
    return [delivery for key, delivery in keys.items() if key in new]


def _key(delivery: Delivery[E]) -> UUID:
    return UUID(derive_id(delivery.consumer, delivery.envelope.event_id))


async def forget_old(database: Database, age_s: float) -> int:
    """Removes rows older than `age_s`; returns their number.

    After that time the broker does not deliver a handled event again.
    """
    forgotten, removed = 0, FORGET_BATCH
    while removed == FORGET_BATCH:
        async with database.sweep() as tx:
            cursor = await tx.execute(
                "DELETE FROM inbox WHERE ctid = ANY(ARRAY(SELECT ctid FROM inbox"
                " WHERE handled_at < now() - make_interval(secs => %s) LIMIT %s))",
                [age_s, FORGET_BATCH],
            )
            removed = cursor.rowcount
        forgotten += removed
    return forgotten
