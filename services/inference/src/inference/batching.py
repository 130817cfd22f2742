"""Collects texts of many callers into batches of limited size with little padding.

Only the engine runs elsewhere; all state belongs to the event loop and needs no lock.
"""

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, StatusCode
from typing_extensions import override

from chassis.base.errors import OverloadedError, ServiceError, UnavailableError
from chassis.rpc.server import time_left_s
from inference.domain import (
    NOBODY,
    EmbeddingProfile,
    InputType,
    Lane,
    ModelCard,
    ModelServer,
    Owner,
)
from inference.engine import AsyncEngine, Engine, Ids, ThreadedEngine, infer, infer_alone
from inference.fair_queue import Call, FairQueue, LaneLimits, Window
from inference.ports import Embedder, Matrix, Remote, Watched

log = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)


# Measured on two Zen 5 cores in bf16: above 1,024 tokens per batch, throughput no longer rises.
# Document events use at most half of the bulk limit, so calls of `Embed` can use the other half.
LIMITS = {
    Lane.INTERACTIVE: LaneLimits(batch_tokens=512, gather_s=0.0, waiting_texts=8192),
    Lane.BULK: LaneLimits(batch_tokens=1024, gather_s=0.005, waiting_texts=8192),
}
_RETRY_AFTER_S = (0.1, 30.0)
# On exit a batch that runs is given so long; its callers were answered already.
CLOSE_S = 2.0
# More links in a span are not useful.
LINKS_MAX = 64


@dataclass(slots=True, eq=False)
class _Batch:
    """Windows that run together; `alone` if they are those of one caller in a second try."""

    lane: Lane
    windows: list[Window]
    alone: bool = False

    @property
    def tokens(self) -> int:
        """Those that the engine reads, with padding."""
        return max(window.padded for window in self.windows) * len(self.windows)

    def span(self) -> trace.Span:
        """A started span in its own trace, with links to the spans of the callers."""
        callers = {window.call: window.call.caller for window in self.windows}
        links = [Link(caller) for caller in callers.values() if caller.is_valid]
        return tracer.start_span(
            "embed batch",
            context=Context(),
            links=links[:LINKS_MAX],
            attributes={
                "aquifer.lane": self.lane.value,
                "aquifer.texts": len({(window.call, window.row) for window in self.windows}),
                "aquifer.callers": len(callers),
                "aquifer.tokens_padded": self.tokens,
            },
        )


class Batcher(Embedder, Remote, Watched):
    """An `Embedder` over an `Engine`; use it in `async with`. On exit waiting calls fail.

    Interactive windows go before bulk ones and are the only ones in the express slot.
    """

    def __init__(
        self, engine: Engine | AsyncEngine, limits: Mapping[Lane, LaneLimits] = LIMITS
    ) -> None:
        self._engine = engine if isinstance(engine, AsyncEngine) else ThreadedEngine(engine)
        self._queues = {lane: FairQueue(limits[lane]) for lane in Lane}
        self._calls: set[Call] = set()
        self._again: deque[_Batch] = deque()
        self._free = set(range(engine.slots))
        self._running: set[asyncio.Task[Matrix]] = set()
        # 0 until the first batch has told.
        self._seconds_per_token = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    @override
    def profile(self) -> EmbeddingProfile:
        return self._engine.profile

    @property
    @override
    def card(self) -> ModelCard:
        return self._engine.card

    @property
    @override
    def servers(self) -> Sequence[ModelServer]:
        return self._engine.servers

    def waiting_texts(self, lane: Lane) -> int:
        """The number of texts accepted and not yet answered."""
        return self._queues[lane].waiting_texts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        self._set_timer(time.monotonic())
        for call in self._calls:
            _fail(call, _closed_error())
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=CLOSE_S)
            for batch in late:
                batch.cancel()
        self._engine.close()

    @override
    async def watch(self) -> None:
        await self._engine.watch()

    @override
    async def embed(
        self,
        texts: Sequence[str],
        lane: Lane,
        owner: Owner = NOBODY,
        input_type: InputType = InputType.PASSAGE,
    ) -> Matrix:
        queue = self._queues[lane]
        self._admit_texts(lane, len(texts))
        queue.waiting_texts += len(texts)
        try:
            windows = await self._engine.tokenize(texts, lane, input_type)
            # Questions wait only milliseconds, so that lane keeps the order of arrival.
            return await self._wait_for_vectors(
                windows, lane, owner if lane is Lane.BULK else NOBODY
            )
        finally:
            queue.waiting_texts -= len(texts)

    def _admit_texts(self, lane: Lane, texts: int) -> None:
        if self._closed:
            raise _closed_error()
        waiting, limit = self.waiting_texts(lane), self._queues[lane].limits.waiting_texts
        if waiting + texts > limit:
            raise self._full_error(
                lane, f"{waiting} of at most {limit} texts are waiting in the {lane.value} lane"
            )

    def _admit_tokens(self, lane: Lane, tokens: int) -> None:
        """Refuses what does not fit, or cannot end before the call does."""
        queue = self._queues[lane]
        if queue.tokens + tokens > queue.limits.waiting_tokens and queue.tokens:
            raise self._full_error(
                lane, f"{queue.tokens} tokens are waiting in the {lane.value} lane already"
            )
        # In bulk its own share may come first, so no more than the other lane goes surely ahead.
        needed_s = (self._queues[Lane.INTERACTIVE].tokens + tokens) * self._seconds_per_token
        left_s = time_left_s()
        if left_s is not None and left_s < needed_s:
            raise self._full_error(
                lane, f"the texts need about {needed_s:.1f} s, and the call ends in {left_s:.1f} s"
            )

    def _full_error(self, lane: Lane, why: str) -> OverloadedError:
        shortest_s, longest_s = _RETRY_AFTER_S
        queue = self._queues[lane]
        wait_s = queue.tokens * self._seconds_per_token
        return OverloadedError(
            "EMBEDDING_QUEUE_FULL",
            why,
            retry_after_s=min(max(wait_s, shortest_s), longest_s),
            waiting_texts=queue.waiting_texts,
            max_waiting_texts=queue.limits.waiting_texts,
            lane=lane.value,
        )

    async def _wait_for_vectors(
        self, texts: Sequence[Sequence[Ids]], lane: Lane, owner: Owner
    ) -> Matrix:
        if self._closed:
            raise _closed_error()
        call = Call(
            owner=owner,
            caller=trace.get_current_span().get_span_context(),
            done=asyncio.get_running_loop().create_future(),
            sums=np.zeros((len(texts), self.profile.dimensions), np.float32),
            missing=sum(map(len, texts)),
        )
        if not call.missing:
            return _scale_to_unit(call.sums)
        now_s = time.monotonic()
        windows = [Window(call, row, ids, now_s) for row, text in enumerate(texts) for ids in text]
        self._admit_tokens(lane, sum(window.padded for window in windows))
        self._queues[lane].put(windows)
        self._calls.add(call)
        try:
            self._dispatch()
            await call.done
        finally:
            self._calls.discard(call)
            if call.missing:
                self._queues[lane].drop(call)
        return _scale_to_unit(call.sums)

    def _dispatch(self) -> None:
        """Starts a batch in every free slot, while there are batches."""
        if self._closed:
            return
        # One time for both steps: a lane due between them would get no batch and no timer.
        now_s = time.monotonic()
        for slot in sorted(self._free, reverse=True):
            batch = self._next_batch(now_s, express=slot == self._engine.slots - 1)
            if batch is not None:
                self._start(slot, batch)
        self._set_timer(now_s)

    def _next_batch(self, now_s: float, *, express: bool) -> _Batch | None:
        if self._again and not express:
            return self._again.popleft()
        for lane in (Lane.INTERACTIVE,) if express else (Lane.INTERACTIVE, Lane.BULK):
            due_in_s = self._queues[lane].due_in_s(now_s)
            if due_in_s is not None and due_in_s <= 0:
                return _Batch(lane, self._queues[lane].take())
        return None

    def _set_timer(self, now_s: float) -> None:
        """Dispatches again when the bulk lane is due; a freed slot dispatches by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_in_s = self._queues[Lane.BULK].due_in_s(now_s)
        if due_in_s is not None and due_in_s > 0 and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(due_in_s, self._dispatch)

    def _start(self, slot: int, batch: _Batch) -> None:
        self._free.discard(slot)
        span = batch.span()
        # The batch belongs to no caller, so it has the context of none.
        running = asyncio.get_running_loop().create_task(
            self._infer(slot, batch, span), context=contextvars.Context()
        )
        self._running.add(running)
        running.add_done_callback(partial(self._finish, slot, batch, span, time.monotonic()))

    async def _infer(self, slot: int, batch: _Batch, span: trace.Span) -> Matrix:
        windows = [window.ids for window in batch.windows]
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            if batch.alone:
                return await infer_alone(self._engine, slot, windows)
            return await infer(self._engine, slot, windows)

    def _finish(
        self,
        slot: int,
        batch: _Batch,
        span: trace.Span,
        started_s: float,
        ran: asyncio.Task[Matrix],
    ) -> None:
        self._running.discard(ran)
        self._free.add(slot)
        if ran.cancelled():
            span.end()
            return
        error = ran.exception()
        if error is None:
            self._learn_pace(batch, time.monotonic() - started_s)
            for window, vector in zip(batch.windows, ran.result(), strict=True):
                _deliver(window, vector)
        else:
            span.record_exception(error)
            span.set_status(StatusCode.ERROR, type(error).__name__)
            self._retry_alone(batch, error)
        span.end()
        self._dispatch()

    def _learn_pace(self, batch: _Batch, took_s: float) -> None:
        measured = took_s / batch.tokens / self._engine.slots
        latest = 0.1 if self._seconds_per_token else 1.0
        self._seconds_per_token += latest * (measured - self._seconds_per_token)

    def _retry_alone(self, batch: _Batch, error: BaseException) -> None:
        """Runs the windows of each caller once more, alone, to find the cause of a failure.

        An engine that cannot work now says so itself.
        """
        by_call: dict[Call, list[Window]] = {}
        for window in batch.windows:
            if not window.call.done.done():
                by_call.setdefault(window.call, []).append(window)
        log.error(
            "engine.failed",
            exc_info=error,
            extra={"windows": len(batch.windows), "callers": len(by_call), "alone": batch.alone},
        )
        for call, windows in by_call.items():
            if batch.alone or isinstance(error, OverloadedError | UnavailableError):
                _fail(call, _to_service_error(error))
            else:
                self._again.append(_Batch(batch.lane, windows, alone=True))


def _deliver(window: Window, vector: Matrix) -> None:
    call = window.call
    if call.done.done():
        return
    call.sums[window.row] += vector
    call.missing -= 1
    if not call.missing:
        call.done.set_result(None)


def _fail(call: Call, error: ServiceError) -> None:
    if not call.done.done():
        call.done.set_exception(error)


def _scale_to_unit(sums: Matrix) -> Matrix:
    """The rows scaled to unit length.

    Raises:
        UnavailableError: ENGINE_OUTPUT, a row has no direction because its windows cancel out.
    """
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise UnavailableError(
            "ENGINE_OUTPUT", "the engine returned a vector without direction; retry"
        )
    sums /= norms
    return sums


def _to_service_error(error: BaseException) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    failure = UnavailableError(
        "ENGINE_FAILED", "the embedding engine failed on this request; retry"
    )
    failure.__cause__ = error
    return failure


def _closed_error() -> UnavailableError:
    return UnavailableError("SHUTTING_DOWN", "the embedder is shutting down; retry")
