"""Compares the documents of ingest with those that query shows, for an operator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from typing_extensions import override

from aquifer.ops.v1 import reconcile_service_pb2 as pb
from chassis.process.reconcile import EXAMPLES_MAX, Check, Finding, Scope, Slice
from ingest.domain import State
from ingest.pace import Pace
from ingest.traces import continue_trace
from ingest.usecases import announce
from ingest.usecases.ports import (
    SHOWN_MAX,
    Holding,
    Inventory,
    LiveVersion,
    Search,
    Shown,
    Sweeper,
)
from ingest.usecases.versions.send_pieces import SendPieces
from ingest.usecases.work import Begin

SLICE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckLive(Check):
    """Finds live versions that query does not show whole, and sends their chunks again.

    And their labels, if they differ.
    """

    begin: Begin
    inventory: Inventory
    search: Search
    sweeper: Sweeper
    send: SendPieces

    @property
    @override
    def name(self) -> str:
        return "documents"

    @override
    async def list_tenants(self) -> Sequence[str]:
        return await self.sweeper.list_tenants()

    @override
    async def run(self, scope: Scope, after: str) -> Slice:
        """Compares the next `SLICE` live versions."""
        live = await self.inventory.list_live(scope.tenant, scope.collection, after, SLICE)
        shown = await self.search.find(scope.tenant, [one.document for one in live]) if live else {}
        differing = [
            (one, seen)
            for one in live
            if _differs(one, seen := shown.get(one.document, Shown(document=one.document)))
        ]
        # Both services go on meanwhile: what was compared must still be so.
        holdings = await _find_holdings(self.inventory, scope, [seen for _, seen in differing])
        missing, ahead = [], []
        for one, seen in differing:
            held = holdings.get(one.document)
            if held is None or not _is_live(one, held):
                continue
            if max(seen.live_version, seen.tombstone_version) < one.number or (
                seen.live_version == one.number > seen.tombstone_version
            ):
                missing.append(one)
            elif seen.tombstone_version >= one.number or not held.has_version:
                ahead.append(one)
        repaired = len(missing)
        if not scope.dry_run:
            repaired = sum([await self._send_again(scope.tenant, one) for one in missing])
        return Slice(
            checked=len(live),
            findings=[
                Finding(
                    kind=pb.DIFFERENCE_KIND_PASSAGES_MISSING,
                    count=len(missing),
                    repaired=repaired,
                    examples=[f"{one.document} v{one.number}" for one in missing[:EXAMPLES_MAX]],
                ),
                await self._compare_labels(scope, live, shown),
                Finding(
                    kind=pb.DIFFERENCE_KIND_VERSION_AHEAD,
                    count=len(ahead),
                    repaired=0,
                    examples=[f"{one.document} v{one.number}" for one in ahead[:EXAMPLES_MAX]],
                ),
            ],
            after=live[-1].document if len(live) == SLICE else "",
        )

    async def _compare_labels(
        self, scope: Scope, live: Sequence[LiveVersion], shown: Mapping[str, Shown]
    ) -> Finding:
        """Has the labels sent again that query has not; those on their way are sent twice."""
        differing = [
            one.document
            for one in live
            if (seen := shown.get(one.document)) and seen.labels != one.labels
        ]
        if differing and not scope.dry_run:
            async with self.begin(scope.tenant) as work:
                await work.labels.put_again(differing)
        return Finding(
            kind=pb.DIFFERENCE_KIND_LABELS_DIFFER,
            count=len(differing),
            repaired=len(differing),
            examples=differing[:EXAMPLES_MAX],
        )

    async def _send_again(self, tenant: str, one: LiveVersion) -> bool:
        """Sends the chunks of a version again; False if it is no longer live, or has none."""
        async with self.begin(tenant) as work:
            view = await work.documents.lock_version(one.document, one.number)
            if view is None or view.version.state is not State.INDEXED:
                return False
        with continue_trace("reconcile version", view.version.trace_id):
            return await self.send.run(view.version, again=str(uuid4()))


def _differs(one: LiveVersion, seen: Shown) -> bool:
    return (
        seen.live_version != one.number
        or seen.tombstone_version >= one.number
        or seen.passages < one.chunk_count
    )


def _is_live(one: LiveVersion, held: Holding) -> bool:
    return held.live_version == one.number > held.tombstone_version


async def _find_holdings(
    inventory: Inventory, scope: Scope, shown: Sequence[Shown]
) -> Mapping[str, Holding]:
    versions = [(seen.document, seen.live_version) for seen in shown]
    return await inventory.find_holdings(scope.tenant, versions) if versions else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckShown(Check):
    """Finds documents that query has and ingest has not, and deletes them from query.

    A delete may have been undone by restoring an older backup of query. A document that ingest does
    not know becomes known as deleted, so that a later upload of it gets a higher version.
    """

    begin: Begin
    inventory: Inventory
    search: Search
    sweeper: Sweeper
    pace: Pace

    @property
    @override
    def name(self) -> str:
        return "searchable"

    @override
    async def list_tenants(self) -> Sequence[str]:
        return await self.sweeper.list_tenants()

    @override
    async def run(self, scope: Scope, after: str) -> Slice:
        """Compares one page of query's documents."""
        page = await self.search.list_page(scope.tenant, scope.collection, after)
        left, ahead = await self._judge(scope, page)
        if left:
            # A delete may have ended after query was asked.
            now = await self.search.find(scope.tenant, [seen.document for seen in left])
            left, _ = await self._judge(scope, [one for one in now.values() if one in left])
        repaired = len(left)
        if not scope.dry_run:
            repaired = sum([await self._delete(scope.tenant, seen) for seen in left])
        return Slice(
            checked=len(page),
            findings=[
                Finding(
                    kind=pb.DIFFERENCE_KIND_PASSAGES_LEFT,
                    count=len(left),
                    repaired=repaired,
                    examples=[f"{one.document} v{_last(one)}" for one in left[:EXAMPLES_MAX]],
                ),
                Finding(
                    kind=pb.DIFFERENCE_KIND_VERSION_AHEAD,
                    count=len(ahead),
                    repaired=0,
                    examples=[f"{one.document} v{_last(one)}" for one in ahead[:EXAMPLES_MAX]],
                ),
            ],
            after=page[-1].document if len(page) == SHOWN_MAX else "",
        )

    async def _judge(
        self, scope: Scope, page: Sequence[Shown]
    ) -> tuple[Sequence[Shown], Sequence[Shown]]:
        """Those that ingest has deleted or does not know, and those of a version it does not know.

        With a live version here, `CheckLive` has compared it. A running delete ends by itself.
        """
        having = [seen for seen in page if _last(seen)]
        holdings = await _find_holdings(self.inventory, scope, having)
        left, ahead = [], []
        for seen in having:
            held = holdings.get(seen.document)
            if held is None or (held.tombstone_version >= _last(seen) and not held.is_deleting):
                left.append(seen)
            elif not held.live_version and not held.is_deleting and not held.has_version:
                ahead.append(seen)
        return left, ahead

    async def _delete(self, tenant: str, seen: Shown) -> bool:
        """Orders the deletion again; False if the document has become known meanwhile."""
        async with self.begin(tenant) as work:
            entry = await work.documents.lock(seen.document)
            if entry is None:
                wait_s = self.pace.wait_s(0)
                version = await work.deletions.adopt(seen.document, _last(seen), wait_s)
            else:
                version = await work.documents.find_version(seen.document, entry.tombstone_version)
            if version is None:
                return False
            announce.order_deletion(work, version, again=str(uuid4()))
        return True


def _last(seen: Shown) -> int:
    """The last version of which query has passages; 0 if it has none."""
    if seen.live_version > seen.tombstone_version:
        return seen.live_version
    return seen.tombstone_version if seen.deleted_passages else 0
