"""The queue of one lane, shared fairly between tenants and their documents."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from opentelemetry.trace import SpanContext

from inference.domain import Owner
from inference.engine import GRANULE_TOKENS, Ids, padded_tokens
from inference.ports import Matrix

# An owner whose windows fill the batches of others gets more than its share. Its windows would
# never lead a batch, and those that fit no other batch would wait forever. Therefore the oldest
# window leads one of so many batches.
OLDEST_LEADS_EVERY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """Limits of a lane: tokens and windows per batch, seconds to gather it, and what may wait.

    A text counts as waiting from its arrival until its vector is returned, a token until its batch
    begins.
    """

    batch_tokens: int
    gather_s: float
    waiting_texts: int
    waiting_tokens: int = 4_000_000
    batch_windows: int = 1_024


@dataclass(slots=True, eq=False)
class Call:
    """The texts of one caller; `sums` adds up the vectors of their windows, weighted by length."""

    owner: Owner
    caller: SpanContext
    done: asyncio.Future[None]
    sums: Matrix
    missing: int


@dataclass(slots=True, eq=False)
class Window:
    """A part of one text that the engine embeds at once."""

    call: Call
    row: int
    ids: Ids
    arrived_s: float

    @property
    def padded(self) -> int:
        return padded_tokens(len(self.ids))


@dataclass(slots=True, eq=False)
class _Share:
    """The padded tokens that an owner was served, and its parts, which share them.

    Tenants share the lane, documents share the part of their tenant. The windows of a document wait
    in `shelves` by padded length, each in order of arrival. Owners without windows are removed.

    A new owner starts at `level`, the amount each would have now if all had been served equally. So
    it does not wait for what others were served before, and does not go before owners that have
    been served less.
    """

    served: float = 0.0
    level: float = 0.0
    parts: dict[str, "_Share"] = field(default_factory=dict)
    shelves: dict[int, deque[Window]] = field(default_factory=dict)

    def part(self, name: str) -> "_Share":
        if name not in self.parts:
            self.parts[name] = _Share(served=self.level)
        return self.parts[name]

    def serve(self, part: "_Share", tokens: int) -> None:
        part.served += tokens
        self.level += tokens / len(self.parts)

    def forget_idle(self, name: str) -> None:
        if not (self.parts[name].parts or self.parts[name].shelves):
            del self.parts[name]


@dataclass(slots=True, eq=False)
class FairQueue:
    """The windows of one lane; a batch has windows of similar length and serves owners fairly."""

    limits: LaneLimits
    waiting_texts: int = 0
    tokens: int = 0
    batches: int = 0
    lane: _Share = field(default_factory=_Share)

    def put(self, windows: Sequence[Window]) -> None:
        for window in windows:
            owner = window.call.owner
            shelves = self.lane.part(owner.tenant).part(owner.document).shelves
            shelves.setdefault(window.padded, deque()).append(window)
            self.tokens += window.padded

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until a batch is due, 0 or less if now; None if no window waits."""
        if not self.tokens:
            return None
        if self.tokens >= self.limits.batch_tokens:
            return 0.0
        return min(map(_age, self._documents())) + self.limits.gather_s - now_s

    def take(self) -> list[Window]:
        """The next batch: a window of the owner served least, others as long, then shorter ones.

        A window is padded to at most twice its length. No window starves: it is taken at the latest
        after `OLDEST_LEADS_EVERY` batches for each older window and for itself.
        """
        self.batches += 1
        lead = _age if self.batches % OLDEST_LEADS_EVERY == 0 else _amount_served
        shares = min(self._documents(), key=lead)
        longest = _oldest(shares[1]).padded
        room = min(max(1, self.limits.batch_tokens // longest), self.limits.batch_windows)
        batch = [self._remove(*shares, longest)]
        for length in range(longest, (longest - 1) // 2, -GRANULE_TOKENS):
            while len(batch) < room and (fitting := self._choose_document(length)):
                batch.append(self._remove(*fitting, length))
        return batch

    def drop(self, call: Call) -> None:
        """Removes the windows of a call that are still in the queue."""
        document = self.lane.part(call.owner.tenant).part(call.owner.document)
        for length, shelf in list(document.shelves.items()):
            kept = deque(window for window in shelf if window.call is not call)
            self.tokens -= length * (len(shelf) - len(kept))
            document.shelves[length] = kept
            _remove_empty(document, length)
        self._forget_idle(call.owner)

    def _documents(self) -> Iterator[tuple[_Share, _Share]]:
        """The tenant and the document of every document with windows."""
        for tenant in self.lane.parts.values():
            for document in tenant.parts.values():
                yield tenant, document

    def _choose_document(self, length: int) -> tuple[_Share, _Share] | None:
        """The owner served least among those with a window of this padded length."""
        fitting = (shares for shares in self._documents() if length in shares[1].shelves)
        return min(fitting, key=_amount_served, default=None)

    def _remove(self, tenant: _Share, document: _Share, length: int) -> Window:
        window = document.shelves[length].popleft()
        self.tokens -= length
        self.lane.serve(tenant, length)
        tenant.serve(document, length)
        _remove_empty(document, length)
        self._forget_idle(window.call.owner)
        return window

    def _forget_idle(self, owner: Owner) -> None:
        self.lane.parts[owner.tenant].forget_idle(owner.document)
        self.lane.forget_idle(owner.tenant)


def _amount_served(shares: tuple[_Share, _Share]) -> tuple[float, float]:
    """Sort key: the amount served to the tenant, then to the document."""
    tenant, document = shares
    return tenant.served, document.served


def _age(shares: tuple[_Share, _Share]) -> float:
    return _oldest(shares[1]).arrived_s


def _oldest(document: _Share) -> Window:
    return min((shelf[0] for shelf in document.shelves.values()), key=lambda w: w.arrived_s)


def _remove_empty(document: _Share, length: int) -> None:
    if not document.shelves[length]:
        del document.shelves[length]
