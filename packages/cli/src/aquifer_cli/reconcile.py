"""`aquifer reconcile`: finds and repairs differences between the stores, service by service."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import grpc

from aquifer.ops.v1.reconcile_service_pb2 import (
    Difference,
    DifferenceKind,
    ReconcileRequest,
    ReconcileResponse,
)
from aquifer.ops.v1.reconcile_service_pb2_grpc import ReconcileServiceStub
from aquifer.services import NAMES
from aquifer_cli.client import Client
from aquifer_cli.errors import EXIT_FAILED, CommandError
from aquifer_cli.layout import Row
from aquifer_cli.operators import ask_each
from aquifer_cli.screen import Screen

# A slice may embed a thousand passages again.
SLICE_S = 300.0
# A point without a passage is removed if it has none a minute later either.
LOOK_AGAIN_S = 10.0
LOOKS_MAX = 9
EXAMPLES = 5
# What to do about differences that were not repaired.
ADVICE = {
    DifferenceKind.DIFFERENCE_KIND_STEP_OVERDUE: "what was not sent again still waits in a queue: "
    "`aquifer status` shows which",
    DifferenceKind.DIFFERENCE_KIND_DELETE_UNFINISHED: "what was not sent again still waits in a "
    "queue: `aquifer status` shows which",
    DifferenceKind.DIFFERENCE_KIND_OBJECT_MISSING: "original bytes are lost: restore the object "
    "store from its backup; searches are not affected",
    DifferenceKind.DIFFERENCE_KIND_VERSION_AHEAD: "query is ahead of ingest: restore both from the "
    "same backup, or delete and upload these documents again under other names",
}


@dataclass(slots=True, kw_only=True)
class Found:
    """Differences of one kind in one service."""

    count: int = 0
    repaired: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        """Adds those of another slice."""
        self.count += difference.count
        self.repaired += difference.repaired
        self.examples += difference.examples[: EXAMPLES - len(self.examples)]


Kind = tuple[str, DifferenceKind.ValueType]
ORPHANED: Kind = ("query", DifferenceKind.DIFFERENCE_KIND_POINT_ORPHANED)


@dataclass(slots=True, kw_only=True)
class Report:
    """What was found and repaired; in a dry run, what would be."""

    dry_run: bool
    compared: int = 0
    found: dict[Kind, Found] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Failure while differences are left."""
        left = any(one.count > (0 if self.dry_run else one.repaired) for one in self.found.values())
        return EXIT_FAILED if left else 0


async def run(
    client: Client,
    report: Report,
    collection: str,
    on_slice: Callable[[str, ReconcileResponse], None],
) -> Mapping[str, CommandError]:
    """Fills the report; returns the services that did not answer.

    Query comes first: what it removes because its passage is lost, the chunks that ingest sends
    again bring back. Points that may belong to a batch on its way are looked at again at the end.
    """
    failed = dict(await _ask_all(client, NAMES, report, collection, on_slice))
    orphaned = report.found.get(ORPHANED, Found())
    for _ in range(0 if report.dry_run else LOOKS_MAX):
        if orphaned.count == orphaned.repaired or failed:
            break
        await asyncio.sleep(LOOK_AGAIN_S)
        again = Report(dry_run=False)
        failed = dict(await _ask_all(client, ("query",), again, collection, on_slice))
        left = again.found.get(ORPHANED, Found())
        orphaned.repaired = max(orphaned.repaired, orphaned.count - (left.count - left.repaired))
    return failed


async def _ask_all(
    client: Client,
    services: tuple[str, ...],
    report: Report,
    collection: str,
    on_slice: Callable[[str, ReconcileResponse], None],
) -> Mapping[str, CommandError]:
    """Adds what these services find to the report; returns those that did not answer."""

    async def ask(service: str, channel: grpc.aio.Channel) -> None:
        stub, token = ReconcileServiceStub(channel), ""
        while True:
            request = ReconcileRequest(
                dry_run=report.dry_run, collection=collection, page_token=token
            )
            response = await client.call(stub.Reconcile, request, timeout_s=SLICE_S)
            report.compared += response.checked
            for one in response.differences:
                report.found.setdefault((service, one.kind), Found()).add(one)
            on_slice(service, response)
            token = response.next_page_token
            if not token:
                return

    return await ask_each(client, services, ask)


def describe_slice(service: str, response: ReconcileResponse) -> str:
    """A label for progress: `query: points of acme`."""
    of_tenant = f" of {response.tenant}" if response.tenant else ""
    return f"{service}: {response.check}{of_tenant}"


def kind_name(kind: DifferenceKind.ValueType) -> str:
    """`POINT_MISSING`; the number for a kind of a later contract."""
    if kind not in DifferenceKind.values():
        return str(kind)
    return DifferenceKind.Name(kind).removeprefix("DIFFERENCE_KIND_")


def as_json(report: Report) -> Sequence[Mapping[str, object]]:
    """One object for each kind of difference, for programs."""
    return [
        {
            "service": service,
            "difference": kind_name(kind),
            "found": found.count,
            "would_repair" if report.dry_run else "repaired": found.repaired,
            "examples": found.examples,
        }
        for (service, kind), found in report.found.items()
    ]


def show(screen: Screen, report: Report) -> None:
    """A table, and what to do about the rest."""
    screen.table(
        ["service", "difference", "found", "would repair" if report.dry_run else "repaired"],
        [
            Row(
                cells=(service, kind_name(kind), found.count, found.repaired),
                below=", ".join(found.examples)
                + (", ..." if found.count > len(found.examples) else ""),
            )
            for (service, kind), found in report.found.items()
        ],
    )
    left = dict.fromkeys(
        ADVICE[kind]
        for (_, kind), found in report.found.items()
        if found.count > found.repaired and kind in ADVICE
    )
    for advice in left:
        screen.note(advice)
    compared = f"{report.compared:,} things compared"
    screen.say(f"nothing differs, {compared}" if not report.found else compared)
    if report.found and report.dry_run:
        screen.note("nothing was changed; `aquifer reconcile` repairs")
