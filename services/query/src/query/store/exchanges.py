"""Records of answers with what belongs to them, and their removal by age."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from typing_extensions import override

from chassis.base.postgres import Database
from query.domain import Version
from query.store.answers import COLUMNS, read_answer
from query.usecases.exchanges import Exchanges, Place, Record, Removed, Wanted

# `gone` are the deleted versions that an answer uses; `hidden`: one is not for the reader, or
# unknown, see `PostgresAnswers.find`.
_LIST_ALL: Final = f"""
SELECT known.*, message.conversation_id, message.number,
    EXISTS (
        SELECT FROM answer_sources AS source
        WHERE source.tenant_id = %(tenant)s AND source.answer_id = known.answer_id AND NOT EXISTS (
            SELECT FROM documents AS seen
            WHERE seen.tenant_id = %(tenant)s AND seen.document = source.document
                AND (%(held)s::text[] IS NULL OR seen.labels = '{{}}' OR seen.labels && %(held)s))
    ) AS hidden,
    ARRAY(
        SELECT jsonb_build_array(source.document, source.version) FROM answer_sources AS source
        JOIN documents AS seen ON seen.tenant_id = source.tenant_id
            AND seen.document = source.document AND seen.tombstone_version >= source.version
        WHERE source.tenant_id = %(tenant)s AND source.answer_id = known.answer_id
    ) AS gone
FROM (
    SELECT {COLUMNS}, created_at, redacted_at FROM answers
    WHERE tenant_id = %(tenant)s
        AND (%(rating)s::text IS NULL OR feedback = %(rating)s)
        AND (created_at, answer_id) > (%(after)s::timestamptz, %(answer_id)s)
        AND created_at >= %(start)s::timestamptz AND created_at < %(end)s::timestamptz
    ORDER BY created_at, answer_id LIMIT %(limit)s
) AS known
LEFT JOIN messages AS message
    ON message.tenant_id = %(tenant)s AND message.answer_id = known.answer_id
ORDER BY known.created_at, known.answer_id
"""  # noqa: S608  (constants of this module)

# A statement of its own, which has an index of its own.
_LIST_OWN: Final = _LIST_ALL.replace(
    "FROM answers\n    WHERE", "FROM answers\n    WHERE principal = %(principal)s AND"
)

# A step of the index for each tenant, instead of every row.
_LIST_TENANTS: Final = b"""
WITH RECURSIVE tenants AS (
    (SELECT tenant_id FROM answers ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT tenant_id FROM answers WHERE tenant_id > tenants.tenant_id
            ORDER BY tenant_id LIMIT 1)
    FROM tenants WHERE tenant_id IS NOT NULL
), conversing AS (
    (SELECT tenant_id FROM conversations ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT tenant_id FROM conversations WHERE tenant_id > conversing.tenant_id
            ORDER BY tenant_id LIMIT 1)
    FROM conversing WHERE tenant_id IS NOT NULL
)
SELECT tenant_id FROM tenants WHERE tenant_id IS NOT NULL
UNION SELECT tenant_id FROM conversing WHERE tenant_id IS NOT NULL ORDER BY tenant_id
"""

# A new message locks its conversation first: it is then left here, or gone for the message.
_REMOVE_CONVERSATIONS: Final = b"""
WITH old AS MATERIALIZED (
    SELECT conversation_id FROM conversations
    WHERE tenant_id = %(tenant)s AND active_at < %(before)s
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), unanswered AS (
    DELETE FROM answers AS known USING messages AS message, old
    WHERE message.tenant_id = %(tenant)s AND message.conversation_id = old.conversation_id
        AND known.tenant_id = %(tenant)s AND known.answer_id = message.answer_id
)
DELETE FROM conversations AS one USING old
WHERE one.tenant_id = %(tenant)s AND one.conversation_id = old.conversation_id
"""

_REMOVE_ANSWERS: Final = b"""
WITH old AS MATERIALIZED (
    SELECT answer_id, created_at FROM answers
    WHERE tenant_id = %(tenant)s AND created_at < %(before)s
        AND (created_at, answer_id) > (%(after)s::timestamptz, %(answer_id)s)
    ORDER BY created_at, answer_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), removed AS (
    DELETE FROM answers AS known USING old
    WHERE known.tenant_id = %(tenant)s AND known.answer_id = old.answer_id AND NOT EXISTS (
        SELECT FROM messages AS message
        WHERE message.tenant_id = %(tenant)s AND message.answer_id = old.answer_id)
    RETURNING known.answer_id
)
SELECT created_at, answer_id, (SELECT count(*) FROM removed) AS removed
FROM old ORDER BY created_at DESC, answer_id DESC LIMIT 1
"""


class PostgresExchanges(Exchanges):
    """See `Exchanges`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @override
    async def list_page(self, wanted: Wanted, after: Place | None, limit: int) -> Sequence[Record]:
        values = {
            "tenant": wanted.tenant,
            "held": None if wanted.held is None else sorted(wanted.held),
            "principal": wanted.principal,
            "rating": wanted.rating.value if wanted.rating else None,
            # As infinite times, which the driver does not have.
            "start": wanted.start.isoformat() if wanted.start else "-infinity",
            "end": wanted.end.isoformat() if wanted.end else "infinity",
            **_after(after),
            "limit": limit,
        }
        statement = _LIST_ALL if wanted.principal is None else _LIST_OWN
        async with self._database.transaction(wanted.tenant) as tx:
            rows = await (await tx.execute(statement.encode(), values)).fetchall()
        return [_record(wanted.tenant, row) for row in rows]

    @override
    async def list_tenants(self) -> Sequence[str]:
        async with self._database.sweep() as tx:
            rows = await (await tx.execute(_LIST_TENANTS)).fetchall()
        return [row["tenant_id"] for row in rows]

    @override
    async def remove_conversations(self, tenant: str, before: datetime, limit: int) -> int:
        values = {"tenant": tenant, "before": before, "limit": limit}
        async with self._database.transaction(tenant) as tx:
            return (await tx.execute(_REMOVE_CONVERSATIONS, values)).rowcount

    @override
    async def remove_answers(
        self, tenant: str, before: datetime, after: Place | None, limit: int
    ) -> Removed:
        values = {"tenant": tenant, "before": before, **_after(after), "limit": limit}
        async with self._database.transaction(tenant) as tx:
            row = await (await tx.execute(_REMOVE_ANSWERS, values)).fetchone()
        if row is None:
            return Removed(count=0, last=None)
        last = Place(time=row["created_at"], answer_id=row["answer_id"])
        return Removed(count=row["removed"], last=last)


def _after(place: Place | None) -> dict[str, Any]:
    return {
        "after": place.time.isoformat() if place else "-infinity",
        "answer_id": place.answer_id if place else UUID(int=0),
    }


def _record(tenant: str, row: Mapping[str, Any]) -> Record:
    gone = {Version(document=document, number=number) for document, number in row["gone"]}
    answer = read_answer(tenant, row).redact(gone)
    if row["hidden"]:
        feedback = replace(answer.feedback, reason="") if answer.feedback else None
        answer = replace(answer, text="", citations=(), feedback=feedback)
    conversation = row["conversation_id"]
    return Record(
        answer=answer,
        stored_at=row["created_at"],
        withheld=bool(gone or row["hidden"] or row["redacted_at"]),
        message=(conversation, row["number"]) if conversation else None,
    )
