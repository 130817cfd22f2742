"""Rows of one tenant inside one transaction; row-level security repeats the tenant's condition."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from typing_extensions import override

from chassis.base.errors import InvalidInputError
from chassis.base.postgres import Transaction
from query.description import Attributes, Description
from query.domain import Batch, Removed, Standing, Vector, Version
from query.labels import Labels
from query.names import collection_of
from query.store import statements
from query.store.passage_vectors import put_vectors, remove_vectors
from query.store.records import read_in_use
from query.usecases.ports import Rows
from query.usecases.records import InUse


class PostgresRows(Rows):
    """See `Rows`; `tx` must be bound to `tenant`."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def lock(self, version: Version) -> Standing:
        return (await self.lock_all([version]))[version.document]

    @override
    async def lock_all(self, versions: Sequence[Version]) -> Mapping[str, Standing]:
        return await self._lock({version.document: version.collection for version in versions})

    async def _lock(self, collections: Mapping[str, str]) -> Mapping[str, Standing]:
        # Sorted, so that two transactions cannot deadlock.
        documents = sorted(collections)
        cursor = await self._tx.execute(
            statements.LOCK,
            {
                "tenant": self._tenant,
                "documents": documents,
                "collections": [collections[document] for document in documents],
            },
        )
        return {row["document"]: read_standing(row) for row in await cursor.fetchall()}

    @override
    async def label(self, labelled: Sequence[tuple[str, Labels]]) -> Sequence[str]:
        await self._lock({document: collection_of(document) for document, _ in labelled})
        cursor = await self._tx.execute(
            statements.LABEL,
            {
                "tenant": self._tenant,
                "labelled": [document for document, _ in labelled],
                "labels": [",".join(labels.names) for _, labels in labelled],
                "orders": [labels.order for _, labels in labelled],
            },
        )
        return [row["document"] for row in await cursor.fetchall()]

    @override
    async def record_described(self, described: Sequence[tuple[Version, Description]]) -> None:
        if described:
            values = {
                "described": [version.document for version, _ in described],
                "described_versions": [version.number for version, _ in described],
                "revisions": [description.revision for _, description in described],
            }
            await self._tx.execute(statements.RECORD_DESCRIBED, {"tenant": self._tenant, **values})

    @override
    async def share_attributes(self, document: str) -> Attributes:
        names = {"tenant": self._tenant, "document": document}
        row = await (await self._tx.execute(statements.SHARE_LABELS, names)).fetchone()
        cursor = await self._tx.execute(statements.DESCRIPTIONS, names)
        return Attributes(
            labels=_labels(row).names if row else (),
            descriptions={one["version"]: _description(one) for one in await cursor.fetchall()},
        )

    @override
    async def finish_update(self, document: str) -> None:
        names = {"tenant": self._tenant, "document": document}
        await self._tx.execute(statements.FINISH_UPDATE, names)

    @override
    async def lock_profiles(self) -> InUse:
        row = await (await self._tx.execute(statements.LOCK_PROFILES)).fetchone()
        assert row is not None, "whoever opened the indexes has read it"
        return read_in_use(row)

    @override
    async def put(self, batches: Sequence[Batch], in_use: InUse) -> None:
        live = in_use.live.name
        stored = [
            (passage, point_id)
            for batch in batches
            for passage, point_id in zip(batch.passages, batch.point_ids, strict=True)
        ]
        passages = [passage for passage, _ in stored]
        await self._tx.execute(
            statements.PUT,
            {
                "tenant": self._tenant,
                "documents": [passage.version.document for passage in passages],
                "versions": [passage.version.number for passage in passages],
                **_descriptions([(batch.version, batch.description) for batch in batches]),
                "traces": [passage.ingest_trace_id for passage in passages],
                "upload_event_ids": [passage.upload_event_id for passage in passages],
                "ordinals": [passage.ordinal for passage in passages],
                "chunk_ids": [passage.chunk_id for passage in passages],
                "point_ids": [point_id for _, point_id in stored],
                "texts": [passage.text for passage in passages],
                "starts": [passage.start for passage in passages],
                "ends": [passage.end for passage in passages],
                "pages": [passage.page for passage in passages],
                "page_breaks": [Jsonb(list(passage.page_breaks)) for passage in passages],
                "headings": [Jsonb(list(passage.headings)) for passage in passages],
                "table_headers": [passage.table_header for passage in passages],
                "lines": [passage.lines for passage in passages],
                "vectors": [
                    vector.astype("<f4").tobytes()
                    for batch in batches
                    for vector in batch.vectors[live]
                ],
                "vector_profiles": [live] * len(stored),
            },
        )
        if in_use.beside:
            beside = in_use.beside.name
            vectors = {
                point_id: vector
                for batch in batches
                for point_id, vector in zip(batch.point_ids, batch.vectors[beside], strict=True)
            }
            await self.put_vectors(beside, vectors)

    @override
    async def put_vectors(self, profile: str, vectors: Mapping[UUID, Vector]) -> None:
        await put_vectors(self._tx, self._tenant, profile, vectors)

    @override
    async def remove_vectors(
        self, profile: str, live: str, *, after: UUID | None, limit: int
    ) -> UUID | None:
        return await remove_vectors(self._tx, self._tenant, profile, live, after=after, limit=limit)

    @override
    async def describe(self, described: Mapping[Version, Description]) -> None:
        if described:
            values = _descriptions(list(described.items()))
            await self._tx.execute(statements.DESCRIBE, {"tenant": self._tenant, **values})

    @override
    async def mark(self, batch: Batch) -> bool:
        cursor = await self._tx.execute(
            statements.MARK,
            {
                **self._names(batch.version),
                "batch": batch.number,
                "batch_count": batch.count,
                "chunk_count": batch.chunk_count,
            },
        )
        row = await cursor.fetchone()
        if row is None:
            raise InvalidInputError(
                "BATCHES_DISAGREE", "another batch of this version has other totals"
            )
        return bool(row["complete"])

    @override
    async def count(self, version: Version) -> int:
        cursor = await self._tx.execute(statements.COUNT, self._names(version))
        row = await cursor.fetchone()
        return int(row["passages"]) if row else 0

    @override
    async def go_live(self, version: Version) -> None:
        await self._tx.execute(statements.GO_LIVE, self._names(version))

    @override
    async def go_live_first(self, versions: Sequence[Version]) -> None:
        await self._tx.execute(
            statements.GO_LIVE_FIRST,
            {
                "tenant": self._tenant,
                "documents": [version.document for version in versions],
                "collections": [version.collection for version in versions],
                "versions": [version.number for version in versions],
            },
        )

    @override
    async def move_superseded(self, version: Version) -> bool:
        done = await self._tx.execute(statements.MOVE_SUPERSEDED, self._names(version))
        return done.rowcount > 0

    @override
    async def forget_superseded(self, version: Version) -> bool:
        done = await self._tx.execute(statements.FORGET_SUPERSEDED, self._names(version))
        return done.rowcount > 0

    @override
    async def fail(self, version: Version) -> None:
        await self._tx.execute(statements.FAIL, self._names(version))

    @override
    async def hide(self, *versions: Version) -> None:
        # Sorted, so that two transactions cannot deadlock.
        ordered = sorted(versions, key=lambda version: version.document)
        await self._tx.execute(
            statements.HIDE,
            {
                "tenant": self._tenant,
                "documents": [version.document for version in ordered],
                "collections": [version.collection for version in ordered],
                "versions": [version.number for version in ordered],
            },
        )

    @override
    async def begin_purge(self, version: Version, points: int) -> None:
        await self._tx.execute(statements.BEGIN_PURGE, {**self._names(version), "points": points})

    @override
    async def mark_discarded(self, version: Version, dead_letters: int) -> None:
        names = self._names(version)
        await self._tx.execute(statements.DISCARDED, {**names, "dead_letters": dead_letters})

    @override
    async def finish_purge(self, version: Version) -> Removed:
        names = self._names(version)
        # What else changes these rows has this lock.
        await self._lock({version.document: version.collection})
        passages = await self._tx.execute(statements.REMOVE_PASSAGES, names)
        answers = await self._tx.execute(statements.REDACT, names)
        cursor = await self._tx.execute(
            statements.FINISH_PURGE,
            {
                **names,
                "passages": passages.rowcount,
                "answers": answers.rowcount,
            },
        )
        row = await cursor.fetchone()
        assert row is not None, "a purge was begun before"
        return Removed(**row)

    @override
    async def lock_passages(self, point_ids: Sequence[UUID]) -> Mapping[UUID, Attributes]:
        wanted = {"tenant": self._tenant, "point_ids": list(point_ids)}
        # A transaction that removes passages locks their document first. Only a statement after
        # this lock sees what such a transaction has removed.
        await self._tx.execute(statements.SHARE_DOCUMENTS, wanted)
        cursor = await self._tx.execute(statements.STILL_THERE, wanted)
        return {
            row["point_id"]: Attributes(
                labels=tuple(row["labels"]), descriptions={row["version"]: _description(row)}
            )
            for row in await cursor.fetchall()
        }

    def _names(self, version: Version) -> dict[str, Any]:
        return {
            "tenant": self._tenant,
            "document": version.document,
            "collection": version.collection,
            "version": version.number,
        }


def _descriptions(described: Sequence[tuple[Version, Description]]) -> dict[str, Any]:
    return {
        "described": [version.document for version, _ in described],
        "described_versions": [version.number for version, _ in described],
        "titles": [description.title for _, description in described],
        "metadata": [Jsonb(dict(description.metadata)) for _, description in described],
        "revisions": [description.revision for _, description in described],
        "created": [description.created_at for _, description in described],
    }


def _description(row: Mapping[str, Any]) -> Description:
    return Description(
        title=row["title"],
        metadata=row["metadata"],
        revision=row["revision"],
        created_at=row["created_at"],
        live_at=row["live_at"],
        superseded_at=row["superseded_at"],
    )


def read_standing(row: Mapping[str, Any]) -> Standing:
    """Reads a `Standing` from the columns `statements.STANDING`."""
    return Standing(
        live_version=row["live_version"],
        tombstone_version=row["tombstone_version"],
        failed_versions=frozenset(row["failed_versions"]),
        labels=_labels(row),
    )


def _labels(row: Mapping[str, Any]) -> Labels:
    return Labels(names=tuple(row["labels"]), order=row["labels_order"])
