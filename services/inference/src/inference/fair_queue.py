"""What waits for the engine in one lane, and whose turn it is."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from opentelemetry.trace import SpanContext

from inference.domain import Owner
from inference.engine import GRANULE_TOKENS, Ids, padded_tokens
from inference.usecases import Matrix

# Who gets more than its part as a filler of others' batches has no turn of its own, and what of it
# fits no such batch would wait for ever: so every so many batches are led by the oldest window.
OLDEST_LEADS_EVERY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """How much of a lane goes together, how long it may gather, how much may wait.

    A text counts as waiting from its arrival until its vector is handed out.
    """

    batch_tokens: int
    gather_s: float
    waiting_texts: int


@dataclass(slots=True, eq=False)
class Call:
    """One caller's texts; `sums` gathers their windows' vectors, weighted by length."""

    owner: Owner
    caller: SpanContext
    done: asyncio.Future[None]
    sums: Matrix
    missing: int


@dataclass(slots=True, eq=False)
class Window:
    """A stretch of one text that the engine takes in one piece."""

    call: Call
    row: int
    ids: Ids
    arrived_s: float

    @property
    def padded(self) -> int:
        return padded_tokens(len(self.ids))


@dataclass(slots=True, eq=False)
class _Share:
    """What one owner was served, in padded tokens, and who shares that in turn.

    Tenants share the lane, documents their tenant's part; a document's windows wait on shelves by
    padded length, each in order of arrival. Who waits for nothing is forgotten.

    A newcomer starts at `level`, which is where all would be now had each been served alike: it
    waits for nothing that others were served before, and overtakes nobody who lags behind.
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
    """The windows of one lane: batches of similar length, and in them everybody's fair part."""

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
        """Seconds until a batch should leave, not positive if now; None while nothing waits."""
        if not self.tokens:
            return None
        if self.tokens >= self.limits.batch_tokens:
            return 0.0
        return min(map(_age, self._documents())) + self.limits.gather_s - now_s

    def take(self) -> list[Window]:
        """The window whose turn it is and others of its length, filled up with shorter ones.

        Nothing is padded beyond twice its length, and nothing starves: a window leaves at the
        latest after `OLDEST_LEADS_EVERY` batches for each one older than it and for itself.
        """
        self.batches += 1
        lead = _age if self.batches % OLDEST_LEADS_EVERY == 0 else _amount_served
        shares = min(self._documents(), key=lead)
        longest = _oldest(shares[1]).padded
        room = max(1, self.limits.batch_tokens // longest)
        batch = [self._remove(*shares, longest)]
        for length in range(longest, (longest - 1) // 2, -GRANULE_TOKENS):
            while len(batch) < room and (fitting := self._choose_document(length)):
                batch.append(self._remove(*fitting, length))
        return batch

    def drop(self, call: Call) -> None:
        """Everything of this call that has not left yet."""
        document = self.lane.part(call.owner.tenant).part(call.owner.document)
        for length, shelf in list(document.shelves.items()):
            kept = deque(window for window in shelf if window.call is not call)
            self.tokens -= length * (len(shelf) - len(kept))
            document.shelves[length] = kept
            _remove_empty(document, length)
        self._forget_idle(call.owner)

    def _documents(self) -> Iterator[tuple[_Share, _Share]]:
        """Every document that waits, after its tenant."""
        for tenant in self.lane.parts.values():
            for document in tenant.parts.values():
                yield tenant, document

    def _choose_document(self, length: int) -> tuple[_Share, _Share] | None:
        """Whose turn it is among those with a window of this padded length."""
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
    """Least first: the tenant served least, and of its documents the one served least."""
    tenant, document = shares
    return tenant.served, document.served


def _age(shares: tuple[_Share, _Share]) -> float:
    return _oldest(shares[1]).arrived_s


def _oldest(document: _Share) -> Window:
    return min((shelf[0] for shelf in document.shelves.values()), key=lambda w: w.arrived_s)


def _remove_empty(document: _Share, length: int) -> None:
    if not document.shelves[length]:
        del document.shelves[length]
