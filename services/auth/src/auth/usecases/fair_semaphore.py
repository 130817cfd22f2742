"""Limits how many exchanges use the database at once, fairly among peers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chassis.base.errors import OverloadedError

Queue = deque[asyncio.Future[None]]


@dataclass(slots=True, kw_only=True)
class FairSemaphore:
    """A semaphore for `at_once` callers, round robin over addresses, then over their connections.

    So a caller waits for at most one caller of each other peer, however many calls they send. If
    `waiting_max` callers wait, a caller of a peer with few of them replaces the last caller of the
    peer with most.
    """

    at_once: int
    waiting_max: int
    waiting_max_per_connection: int
    wait_s: float
    _running: int = 0
    _waiting: int = 0
    # By address, then by connection; the first is next. No queue is empty.
    _queues: dict[str, dict[str, Queue]] = field(default_factory=dict)

    @asynccontextmanager
    async def acquire(self, peer: str) -> AsyncIterator[None]:
        """Waits for a place, which is released at the end of the block.

        Args:
            peer: the remote end of the connection, as gRPC names it: `ipv4:10.0.0.1:50000`.

        Raises:
            OverloadedError: EXCHANGES_OPEN, too many callers wait, or this one waited too long.
        """
        if self._running < self.at_once:
            self._running += 1
        else:
            await self._wait(peer)
        try:
            yield
        finally:
            self._release()

    async def _wait(self, peer: str) -> None:
        address = peer.rpartition(":")[0]
        place = self._enqueue(address, peer)
        try:
            async with asyncio.timeout(self.wait_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._release()  # the place was granted, but the caller has left
            else:
                self._dequeue(address, peer, place)
            if isinstance(error, TimeoutError):
                raise _refusal_error() from error
            raise

    def _enqueue(self, address: str, peer: str) -> asyncio.Future[None]:
        if len(self._queues.get(address, {}).get(peer, ())) >= self.waiting_max_per_connection:
            raise _refusal_error()
        if self._waiting >= self.waiting_max:
            self._refuse_last(address, peer)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queues = self._queues[address] = self._queues.get(address, {})
        queue = queues[peer] = queues.get(peer, deque())
        queue.append(place)
        self._waiting += 1
        return place

    def _refuse_last(self, address: str, peer: str) -> None:
        """Refuses the last caller of the longest queue, or this one if its own is as long."""
        longest = max(self._queues, key=self._count)
        if self._count(longest) <= self._count(address) + 1:
            longest = address
        queues = self._queues.get(longest, {})
        longest_peer = max(queues, key=lambda one: len(queues[one]), default=peer)
        own = len(queues.get(peer, ()))
        if longest == address and len(queues.get(longest_peer, ())) <= own + 1:
            raise _refusal_error()
        last = queues[longest_peer][-1]
        self._dequeue(longest, longest_peer, last)
        last.set_exception(_refusal_error())

    def _count(self, address: str) -> int:
        return sum(len(queue) for queue in self._queues.get(address, {}).values())

    def _dequeue(self, address: str, peer: str, place: asyncio.Future[None]) -> None:
        queues = self._queues.get(address, {})
        if place not in queues.get(peer, ()):
            return  # it was refused in favour of another
        queues[peer].remove(place)
        self._waiting -= 1
        if not queues[peer]:
            del queues[peer]
        if not queues:
            del self._queues[address]

    def _release(self) -> None:
        """Gives the place to the next caller."""
        if not self._queues:
            self._running -= 1
            return
        address, queues = next(iter(self._queues.items()))
        peer, queue = next(iter(queues.items()))
        place = queue.popleft()
        self._waiting -= 1
        # A peer with more callers goes to the end.
        del queues[peer], self._queues[address]
        if queue:
            queues[peer] = queue
        if queues:
            self._queues[address] = queues
        place.set_result(None)


def _refusal_error() -> OverloadedError:
    return OverloadedError(
        "EXCHANGES_OPEN", "too many keys are being exchanged; use the token you have, or retry"
    )
