"""Limits how many exchanges use the database at once; those that wait take turns by peer."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chassis.base.errors import OverloadedError

Line = deque[asyncio.Future[None]]


@dataclass(slots=True, kw_only=True)
class Turns:
    """Lets `at_once` callers in. The next turn goes to another address, then another connection.

    So a caller waits for at most one turn of each other peer, however many calls they send. If
    `waiting_max` callers wait, a caller of a peer that has few of them takes the place of the last
    caller of the peer that has most.
    """

    at_once: int
    waiting_max: int
    waiting_max_per_connection: int
    wait_s: float
    _running: int = 0
    _waiting: int = 0
    # By address, then by connection; the first has the next turn. No line is empty.
    _lines: dict[str, dict[str, Line]] = field(default_factory=dict)

    @asynccontextmanager
    async def take(self, peer: str) -> AsyncIterator[None]:
        """Waits for a turn, which lasts as long as the block.

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
            self._pass_on()

    async def _wait(self, peer: str) -> None:
        address = peer.rpartition(":")[0]
        turn = self._join(address, peer)
        try:
            async with asyncio.timeout(self.wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on()  # the turn came, but nobody is left to use it
            else:
                self._leave(address, peer, turn)
            if isinstance(error, TimeoutError):
                raise _refusal_error() from error
            raise

    def _join(self, address: str, peer: str) -> asyncio.Future[None]:
        if len(self._lines.get(address, {}).get(peer, ())) >= self.waiting_max_per_connection:
            raise _refusal_error()
        if self._waiting >= self.waiting_max:
            self._make_room(address, peer)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lines = self._lines[address] = self._lines.get(address, {})
        line = lines[peer] = lines.get(peer, deque())
        line.append(turn)
        self._waiting += 1
        return turn

    def _make_room(self, address: str, peer: str) -> None:
        """Refuses the last caller of the longest line, or raises if the caller's own is as long."""
        longest = max(self._lines, key=self._count)
        if self._count(longest) <= self._count(address) + 1:
            longest = address
        lines = self._lines.get(longest, {})
        longest_peer = max(lines, key=lambda one: len(lines[one]), default=peer)
        own = len(lines.get(peer, ()))
        if longest == address and len(lines.get(longest_peer, ())) <= own + 1:
            raise _refusal_error()
        last = lines[longest_peer][-1]
        self._leave(longest, longest_peer, last)
        last.set_exception(_refusal_error())

    def _count(self, address: str) -> int:
        return sum(len(line) for line in self._lines.get(address, {}).values())

    def _leave(self, address: str, peer: str, turn: asyncio.Future[None]) -> None:
        lines = self._lines.get(address, {})
        if turn not in lines.get(peer, ()):
            return  # it was refused, to make room
        lines[peer].remove(turn)
        self._waiting -= 1
        if not lines[peer]:
            del lines[peer]
        if not lines:
            del self._lines[address]

    def _pass_on(self) -> None:
        """Gives the turn that ends to the next caller."""
        if not self._lines:
            self._running -= 1
            return
        address, lines = next(iter(self._lines.items()))
        peer, line = next(iter(lines.items()))
        turn = line.popleft()
        self._waiting -= 1
        # Whoever has more callers goes to the end.
        del lines[peer], self._lines[address]
        if line:
            lines[peer] = line
        if lines:
            self._lines[address] = lines
        turn.set_result(None)


def _refusal_error() -> OverloadedError:
    return OverloadedError(
        "EXCHANGES_OPEN", "too many keys are being exchanged; use the token you have, or retry"
    )
