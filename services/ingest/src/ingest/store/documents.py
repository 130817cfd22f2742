"""Documents, versions and chunks of one tenant."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from psycopg.types.json import Jsonb
from typing_extensions import override

from aquifer.structs import JsonObject
from chassis.base.errors import ConflictError
from chassis.base.postgres import Transaction
from ingest.domain import (
    UNFINISHED,
    Draft,
    Entry,
    State,
    Upload,
    Verdict,
    Version,
    View,
    source_states,
)
from ingest.filters import names_deleted
from ingest.pieces import Piece, Prepared
from ingest.store import columns, filters, rows, statements
from ingest.store.uploads import standing_of
from ingest.usecases.rows import Addition, Claimed, Cut, PageQuery, Pending, Unfinished
from ingest.usecases.tables import Documents

NUMBER_MAX: Final = 2**63 - 1


class PostgresDocuments(Documents):
    """See `Documents`; for one tenant, in the given transaction."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def claim(self, names: Sequence[str]) -> Claimed:
        await self._run(statements.SHARE_COLLECTIONS, "", names=list(names))
        found = await self._fetch_all(statements.CLAIM, "", names=list(names))
        return Claimed(
            entries={row["name"]: rows.entry(row) for row in found},
            standing=standing_of(found[0]["suspended"]),
            cuts={
                row["name"]: Cut(deletion=row["deletion"], upload_order=row["cut"])
                for row in found
                if row["deletion"]
            },
            created={row["name"] for row in found if row["cuts_apart"] is not None},
            cut_apart={row["name"] for row in found if row["cuts_apart"]},
            inherited={row["name"]: tuple(row["inherited"]) for row in found if row["inherited"]},
        )

    @override
    async def release(self, names: Sequence[str]) -> None:
        await self._run(statements.RELEASE, "", names=list(names))

    @override
    async def lock(self, name: str) -> Entry | None:
        row = await self._fetch_one(f"{statements.ENTRY} FOR UPDATE", name)
        return rows.entry(row) if row else None

    @override
    async def find_entry(self, name: str) -> Entry | None:
        row = await self._fetch_one(statements.ENTRY, name)
        return rows.entry(row) if row else None

    @override
    async def find_newest(self, name: str) -> View | None:
        row = await self._fetch_one(statements.NEWEST, name)
        return rows.view(row) if row else None

    @override
    async def list_newest(self, names: Sequence[str]) -> Sequence[View]:
        return [
            rows.view(row)
            for row in await self._fetch_all(statements.NEWEST_OF, "", names=list(names))
        ]

    @override
    async def find_version(self, name: str, number: int) -> Version | None:
        row = await self._fetch_one(statements.VERSION, name, number=number)
        return rows.version(row) if row else None

    @override
    async def list_versions(self, numbers: Mapping[str, int]) -> Mapping[str, Version]:
        if not numbers:
            return {}
        found = await self._fetch_all(statements.VERSIONS, "", **_to_columns(numbers.items()))
        return {row["document"]: rows.version(row) for row in found}

    @override
    async def lock_version(self, name: str, number: int) -> View | None:
        found = await self.lock_versions([(name, number)])
        return found[0] if found else None

    @override
    async def lock_versions(self, versions: Sequence[tuple[str, int]]) -> Sequence[View]:
        return [
            rows.view(row)
            for row in await self._fetch_all(statements.LOCK_VERSIONS, "", **_to_columns(versions))
        ]

    @override
    async def add(self, additions: Sequence[Addition]) -> Mapping[str, Version]:
        if not additions:
            return {}
        found = await self._fetch_all(statements.ADD, "", **columns.additions(additions))
        made = {row["document"]: rows.version(row) for row in found}
        kept = [one for one in additions if one.draft.name in made]
        if contents := columns.contents(kept):
            await self._run(statements.KEEP_CONTENTS, "", **contents)
        if pieces := columns.pieces(kept):
            await self._run(statements.KEEP_PIECES, "", **pieces)
        return made

    @override
    async def describe(
        self, version: Version, title: str, metadata: JsonObject, *, order_ns: int, wait_s: float
    ) -> Version:
        row = await self._fetch_one(
            statements.DESCRIBE,
            version.document,
            number=version.number,
            title=title,
            metadata=Jsonb(dict(metadata)),
            order=order_ns,
            wait_s=wait_s,
        )
        assert row is not None, "a version is never removed"
        return rows.version(row)

    @override
    async def keep_description(self, draft: Draft) -> None:
        await self._run(
            statements.KEEP_DESCRIPTION,
            draft.name,
            order=draft.order_ns,
            title=draft.title,
            metadata=Jsonb(dict(draft.metadata)),
        )

    @override
    async def find_description(self, name: str) -> tuple[str, JsonObject] | None:
        row = await self._fetch_one(statements.DESCRIPTION, name)
        return (row["description"]["title"], row["description"]["metadata"]) if row else None

    @override
    async def forget_descriptions(self, age_s: float, limit: int) -> int:
        names = {"tenant": self._tenant, "age_s": age_s, "limit": limit}
        cursor = await self._tx.execute(statements.FORGET_DESCRIPTIONS.encode(), names)
        return cursor.rowcount

    @override
    async def confirm_descriptions(self, versions: Sequence[Version]) -> None:
        if versions:
            heard = _to_columns((version.document, version.number) for version in versions)
            await self._run(statements.CONFIRM_DESCRIPTIONS, "", **heard)

    @override
    async def raise_order(self, name: str, order_ns: int) -> None:
        await self._run(statements.RAISE_ORDER, name, order=order_ns)

    @override
    async def read_content(self, name: str, number: int) -> bytes | None:
        row = await self._fetch_one(statements.CONTENT, name, number=number)
        return bytes(row["content"]) if row else None

    @override
    async def read_password(self, name: str, number: int) -> bytes | None:
        row = await self._fetch_one(statements.READ_SEALED, name, number=number)
        return bytes(row["password"]) if row and row["password"] else None

    @override
    async def prepare(
        self, version: Version, prepared: Prepared, wait_s: float, *, are_kept: bool = False
    ) -> Version | None:
        pieces = prepared.pieces
        row = await self._fetch_one(
            statements.PREPARE,
            version.document,
            number=version.number,
            sources=_names(source_states(State.PREPARED)),
            media_type=prepared.media_type,
            title=prepared.title,
            notes=Jsonb(prepared.notes),
            chunk_count=len(pieces),
            batch_count=prepared.batch_count,
            wait_s=wait_s,
            **columns.chunks(() if are_kept else pieces),
        )
        return rows.version(row) if row else None

    @override
    async def keep_pieces(self, version: Version, pieces: Sequence[Piece]) -> bool:
        about = {"number": version.number, "first": pieces[0].ordinal}
        if await self._fetch_one(statements.LOCK_ACCEPTED, version.document, **about) is None:
            return False
        await self._run(statements.DROP_PIECES, version.document, **about)
        await self._run(statements.KEEP_PIECES, "", **columns.pieces_of(version, pieces))
        return True

    @override
    async def finish_pieces(
        self, version: Version, prepared: Prepared, wait_s: float
    ) -> Version | None:
        found = await self.prepare(version, prepared, wait_s, are_kept=True)
        kept = await self._fetch_one(
            statements.DIGEST_OF_PIECES, version.document, number=version.number
        )
        if found is not None and (kept is None or kept["digest"] != _digest(prepared.pieces)):
            raise ConflictError(
                "PIECES_CHANGED", "another process prepares this version too; it is tried again"
            )
        return found

    @override
    async def index(self, versions: Sequence[Version]) -> Mapping[str, Sequence[Upload]]:
        uploads: dict[str, list[Upload]] = defaultdict(list)
        if versions:
            wanted = _to_columns((version.document, version.number) for version in versions)
            for row in await self._fetch_all(statements.INDEX, "", **wanted):
                uploads[row["document"]].append(rows.upload(row))
        return uploads

    @override
    async def fail(self, version: Version, verdict: Verdict) -> Sequence[Upload]:
        number = version.number
        found = await self._fetch_all(
            statements.FAIL,
            version.document,
            number=number,
            first=number,
            last=number,
            result=verdict.reason,
            detail=verdict.detail,
        )
        return [rows.upload(row) for row in found]

    @override
    async def list_retired(self, entry: Entry, number: int) -> Sequence[Version]:
        found = await self._fetch_all(
            statements.RETIRED,
            entry.name,
            number=number,
            **_deletable_from(entry),
            states=_names((*source_states(State.SUPERSEDED), State.FAILED)),
        )
        return [rows.version(row) for row in found]

    @override
    async def retire(self, name: str, *, kept: Sequence[int], dropped: Sequence[int]) -> None:
        await self._run(statements.RETIRE, name, kept=list(kept), dropped=list(dropped))

    @override
    async def list_overkept(self, limit: int) -> Sequence[str]:
        found = await self._fetch_all(statements.OVERKEPT, "", limit=limit)
        return [row["document"] for row in found]

    @override
    async def list_history(self, name: str, before: int, limit: int) -> Sequence[View]:
        found = await self._fetch_all(
            statements.HISTORY, name, before=before or NUMBER_MAX, limit=limit
        )
        return [rows.view(row) for row in found]

    @override
    async def pin(self, name: str, *, pinned: bool) -> Entry:
        row = await self._fetch_one(statements.PIN, name, pinned=pinned)
        assert row is not None, "a document with versions is never removed"
        return rows.entry(row)

    @override
    async def list_pieces(self, name: str, number: int, first: int, limit: int) -> Sequence[Piece]:
        found = await self._fetch_all(
            statements.PIECES, name, number=number, first=first, limit=limit
        )
        return [rows.piece(row) for row in found]

    @override
    async def repeat(self, pending: Pending, wait_s: float) -> Version | None:
        row = await self._fetch_one(
            statements.REPEAT,
            pending.document,
            number=pending.number,
            state=pending.state.value,
            step_due_at=pending.step_due_at,
            wait_s=wait_s,
        )
        return rows.version(row) if row else None

    @override
    async def repeat_description(self, pending: Pending, wait_s: float) -> Version | None:
        row = await self._fetch_one(
            statements.REPEAT_DESCRIPTION,
            pending.document,
            number=pending.number,
            due_at=pending.step_due_at,
            wait_s=wait_s,
        )
        return rows.version(row) if row else None

    @override
    async def list_page(self, query: PageQuery) -> Sequence[View]:
        # Names of a collection lie between its prefix and the same with `/` raised to `0`.
        prefix = f"collections/{query.collection}/documents" if query.collection else "collections"
        names = {"after": max(query.after, f"{prefix}/"), "before": f"{prefix}0"}
        values: dict[str, Any] = {}
        shown = filters.condition(query.where, values)
        if query.state is not None:
            statement, values["state"] = statements.PAGE_IN_STATE, query.state.value
        else:
            statement = statements.PAGE
            if query.where is None or not names_deleted(query.where):
                shown = f"{shown} AND v.state <> 'DELETED'"
        found = await self._fetch_all(
            statement.format(shown=shown), "", limit=query.limit, **names, **values
        )
        return [rows.view(row) for row in found]

    @override
    async def count_unfinished(self) -> Unfinished:
        row = await self._fetch_one(statements.UNFINISHED, "", states=_names(UNFINISHED))
        assert row is not None, "an aggregate returns its row"
        return Unfinished(**row)

    async def _run(self, statement: str, name: str, **values: Any) -> None:
        names = {"tenant": self._tenant, "name": name, **values}
        await self._tx.execute(statement.encode(), names)

    async def _fetch_one(self, statement: str, name: str, **values: Any) -> rows.Row | None:
        names = {"tenant": self._tenant, "name": name, **values}
        return await (await self._tx.execute(statement.encode(), names)).fetchone()

    async def _fetch_all(self, statement: str, name: str, **values: Any) -> list[rows.Row]:
        names = {"tenant": self._tenant, "name": name, **values}
        return await (await self._tx.execute(statement.encode(), names)).fetchall()


def _digest(pieces: Sequence[Piece]) -> bytes:
    """Stands for the ids of all pieces in order, as `DIGEST_OF_PIECES` does."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece.chunk_id.bytes)
    return digest.digest()


def _to_columns(versions: Iterable[tuple[str, int]]) -> dict[str, Any]:
    pairs = list(versions)
    return {"names": [name for name, _ in pairs], "numbers": [number for _, number in pairs]}


def _deletable_from(entry: Entry) -> dict[str, int]:
    """First version that may have data and that no delete removes."""
    return {"from": max(entry.live_version, entry.tombstone_version + 1)}


def _names(states: Sequence[State]) -> list[str]:
    return [state.value for state in states]
