"""`ReconcileService`: runs the checks of a service, one slice of one tenant per call."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from grpc.aio import ServicerContext
from typing_extensions import override

from aquifer.ops.v1 import reconcile_service_pb2 as pb
from aquifer.ops.v1.reconcile_service_pb2_grpc import ReconcileServiceServicer
from chassis.base import paging
from chassis.base.errors import FieldViolation, InvalidInputError
from chassis.identity.tokens import caller
from chassis.rpc.server import Access, any_of

log = logging.getLogger(__name__)

ACCESS: Final[Access] = {"aquifer.ops.v1.ReconcileService/Reconcile": any_of("operate")}
EXAMPLES_MAX: Final = 5
_COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a check compares; an empty `collection` means all. In a dry run it changes nothing."""

    tenant: str
    collection: str
    dry_run: bool

    def includes(self, document: str) -> bool:
        """Whether a document, by its resource name, belongs to it."""
        return not self.collection or document.startswith(f"collections/{self.collection}/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Differences of one kind; in a dry run `repaired` is the number that would be repaired."""

    kind: pb.DifferenceKind.ValueType
    count: int
    repaired: int
    examples: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The result of one call of a check; `after` continues it, empty at the end of its tenant."""

    checked: int
    findings: Sequence[Finding]
    after: str = ""


class Check(Protocol):
    """Compares two stores, slice by slice; `name` is shown to operators."""

    @property
    def name(self) -> str: ...

    async def list_tenants(self) -> Sequence[str]:
        """The tenants to compare; one empty name if the check covers all at once."""

    async def run(self, scope: Scope, after: str) -> Slice:
        """Compares the slice after a position (empty: the first), and repairs it."""


class ReconcileRpc(ReconcileServiceServicer):
    """`ReconcileService` of one service."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._checks = checks

    @override
    async def Reconcile(
        self, request: pb.ReconcileRequest, context: ServicerContext[Any, Any]
    ) -> pb.ReconcileResponse:
        """Runs one slice of one check; logs the caller of a repair."""
        _check_collection(request.collection)
        bound = (request.collection, str(request.dry_run))
        page = paging.parse(0, request.page_token, parts=3, bound=bound)
        name, tenant, after = page.after or (self._checks[0].name, "", "")
        place = next((n for n, one in enumerate(self._checks) if one.name == name), None)
        if place is None:
            raise paging.invalid_token_error()
        check = self._checks[place]
        rest = sorted(one for one in await check.list_tenants() if one >= tenant)
        done = Slice(checked=0, findings=())
        if rest:
            scope = Scope(tenant=rest[0], collection=request.collection, dry_run=request.dry_run)
            done = await check.run(scope, after if rest[0] == tenant else "")
        following: paging.Position = ()
        if done.after:
            following = (name, rest[0], done.after)
        elif len(rest) > 1:
            following = (name, rest[1], "")
        elif place + 1 < len(self._checks):
            following = (self._checks[place + 1].name, "", "")
        found = [one for one in done.findings if one.count or one.repaired]
        if found and not request.dry_run:
            _log_repairs(name, rest[0], found)
        return pb.ReconcileResponse(
            check=name,
            tenant=rest[0] if rest else "",
            checked=done.checked,
            differences=[_to_difference(one) for one in found],
            next_page_token=page.make_token(*following) if following else "",
        )


def _check_collection(collection: str) -> None:
    if collection and not _COLLECTION.fullmatch(collection):
        raise InvalidInputError(
            "COLLECTION_NAME",
            "not a collection id",
            fields=[FieldViolation("collection", _COLLECTION.pattern)],
        )


def _log_repairs(name: str, tenant: str, found: Sequence[Finding]) -> None:
    for one in found:
        log.warning(
            "difference.found",
            extra={
                "check": name,
                "of_tenant": tenant,
                "kind": pb.DifferenceKind.Name(one.kind),
                "count": one.count,
                "repaired": one.repaired,
                "principal": caller().principal,
            },
        )


def _to_difference(finding: Finding) -> pb.Difference:
    return pb.Difference(
        kind=finding.kind,
        count=finding.count,
        repaired=finding.repaired,
        examples=finding.examples[:EXAMPLES_MAX],
    )
