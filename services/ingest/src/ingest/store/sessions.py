"""Uploads in several calls: what is declared, and the parts that are stored."""

from collections.abc import Sequence
from typing import Final

from psycopg.types.json import Jsonb
from typing_extensions import override

from chassis.base.postgres import Transaction
from ingest.domain import Draft, Origin
from ingest.lanes import Lane
from ingest.store.rows import Row
from ingest.usecases.rows import Part, Session
from ingest.usecases.tables import Sessions

_SESSION: Final = (
    "upload_id, document, sha256, size_bytes, offset_bytes, file_name, media_type, title, metadata,"
    " labels, lane, expires_at"
)

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('upload_sessions/' || %(tenant)s, 0))"

_FIND: Final = f"""
SELECT {_SESSION} FROM upload_sessions
WHERE tenant_id = %(tenant)s AND upload_id = %(upload_id)s
"""  # noqa: S608

_FIND_SAME: Final = f"""
SELECT {_SESSION} FROM upload_sessions
WHERE tenant_id = %(tenant)s AND document = %(document)s AND sha256 = %(sha256)s
    AND size_bytes = %(size_bytes)s AND labels = %(labels)s
"""  # noqa: S608

_MEASURE: Final = """
SELECT count(*) AS sessions, coalesce(sum(size_bytes), 0)::bigint AS declared_bytes
FROM upload_sessions WHERE tenant_id = %(tenant)s
"""

_PUT: Final = f"""
INSERT INTO upload_sessions (tenant_id, upload_id, document, sha256, size_bytes, file_name,
    media_type, title, metadata, labels, lane, expires_at)
VALUES (%(tenant)s, %(upload_id)s, %(document)s, %(sha256)s, %(size_bytes)s, %(file_name)s,
    %(media_type)s, %(title)s, %(metadata)s, %(labels)s, %(lane)s,
    clock_timestamp() + make_interval(secs => %(expiry_s)s))
ON CONFLICT (tenant_id, upload_id) DO UPDATE
    SET file_name = EXCLUDED.file_name, media_type = EXCLUDED.media_type, title = EXCLUDED.title,
        metadata = EXCLUDED.metadata, labels = EXCLUDED.labels, lane = EXCLUDED.lane,
        expires_at = CASE
            WHEN upload_sessions.offset_bytes = upload_sessions.size_bytes
            THEN upload_sessions.expires_at ELSE EXCLUDED.expires_at END
RETURNING {_SESSION}
"""  # noqa: S608

_APPEND: Final = f"""
WITH moved AS (
    UPDATE upload_sessions SET offset_bytes = offset_bytes + %(size_bytes)s,
        expires_at = clock_timestamp() + make_interval(secs => %(expiry_s)s)
    WHERE tenant_id = %(tenant)s AND upload_id = %(upload_id)s AND offset_bytes = %(start)s
        AND offset_bytes + %(size_bytes)s <= size_bytes
    RETURNING *
), added AS (
    INSERT INTO upload_parts (tenant_id, upload_id, start_byte, size_bytes, sha256, object_key)
    SELECT tenant_id, upload_id, %(start)s, %(size_bytes)s, %(sha256)s, %(key)s FROM moved
)
SELECT {_SESSION} FROM moved
"""  # noqa: S608

_PARTS: Final = """
SELECT start_byte, size_bytes, sha256, object_key FROM upload_parts
WHERE tenant_id = %(tenant)s AND upload_id = %(upload_id)s ORDER BY start_byte
"""

# The row of the session is locked first: an append that runs waits, and finds no session then.
_REMOVE: Final = """
DELETE FROM upload_sessions
WHERE tenant_id = %(tenant)s AND upload_id = %(upload_id)s
    AND (NOT %(only_expired)s OR expires_at <= clock_timestamp())
"""

_REMOVE_PARTS: Final = """
DELETE FROM upload_parts WHERE tenant_id = %(tenant)s AND upload_id = %(upload_id)s
RETURNING object_key
"""


class PostgresSessions(Sessions):
    """See `Sessions`; for one tenant, in the given transaction."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def lock(self) -> None:
        await self._tx.execute(_LOCK, {"tenant": self._tenant})

    @override
    async def find(self, upload_id: str) -> Session | None:
        return await self._fetch_one(_FIND, upload_id=upload_id)

    @override
    async def find_same(self, draft: Draft, sha256: str, size_bytes: int) -> Session | None:
        return await self._fetch_one(
            _FIND_SAME,
            document=draft.name,
            sha256=sha256,
            size_bytes=size_bytes,
            labels=list(draft.labels),
        )

    @override
    async def measure(self) -> tuple[int, int]:
        row = await (await self._tx.execute(_MEASURE, {"tenant": self._tenant})).fetchone()
        assert row is not None, "an aggregate returns its row"
        return row["sessions"], row["declared_bytes"]

    @override
    async def put(self, session: Session, expiry_s: float) -> Session:
        draft = session.draft
        put = await self._fetch_one(
            _PUT,
            upload_id=session.upload_id,
            document=draft.name,
            sha256=session.sha256,
            size_bytes=session.size_bytes,
            file_name=draft.file_name,
            media_type=draft.media_type,
            title=draft.title,
            metadata=Jsonb(dict(draft.metadata)),
            labels=list(draft.labels),
            lane=draft.lane,
            expiry_s=expiry_s,
        )
        assert put is not None, "it is written in any case"
        return put

    @override
    async def append(self, upload_id: str, part: Part, expiry_s: float) -> Session | None:
        return await self._fetch_one(
            _APPEND,
            upload_id=upload_id,
            start=part.start,
            size_bytes=part.size_bytes,
            sha256=part.sha256,
            key=part.key,
            expiry_s=expiry_s,
        )

    @override
    async def list_parts(self, upload_id: str) -> Sequence[Part]:
        names = {"tenant": self._tenant, "upload_id": upload_id}
        return [
            Part(
                start=row["start_byte"],
                size_bytes=row["size_bytes"],
                sha256=row["sha256"],
                key=row["object_key"],
            )
            for row in await (await self._tx.execute(_PARTS, names)).fetchall()
        ]

    @override
    async def remove(self, upload_id: str, *, only_expired: bool = False) -> Sequence[str]:
        names = {"tenant": self._tenant, "upload_id": upload_id}
        removed = await self._tx.execute(_REMOVE, {**names, "only_expired": only_expired})
        if not removed.rowcount:
            return ()
        parts = await (await self._tx.execute(_REMOVE_PARTS, names)).fetchall()
        return [row["object_key"] for row in parts]

    async def _fetch_one(self, statement: str, **values: object) -> Session | None:
        names = {"tenant": self._tenant, **values}
        row = await (await self._tx.execute(statement.encode(), names)).fetchone()
        return _session(row, self._tenant) if row else None


def _session(row: Row, tenant: str) -> Session:
    return Session(
        draft=Draft(
            tenant=tenant,
            name=row["document"],
            file_name=row["file_name"],
            media_type=row["media_type"],
            title=row["title"],
            metadata=row["metadata"],
            labels=tuple(row["labels"]),
            origin=Origin(request_id=row["upload_id"]),
            lane=Lane(row["lane"]),
        ),
        upload_id=row["upload_id"],
        sha256=row["sha256"],
        size_bytes=row["size_bytes"],
        offset=row["offset_bytes"],
        expires_at=row["expires_at"],
    )
