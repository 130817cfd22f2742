"""Events that wait in their stream for room among the dead letters."""

import logging
from contextlib import suppress

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from chassis.base.errors import UnavailableError
from chassis.events.bound import RETURN_DELAY_S
from chassis.events.dead_letters import DeadLetters, Room

log = logging.getLogger(__name__)

NO_ROOM = Room(letters=0, size_bytes=0)


class HeldEvents:
    """Keeps events of one durable alive on the bus while its dead letters are full.

    They wait without their bytes and take no slot, so the events behind them are handled. As soon
    as there is room the broker delivers them again, and only then counts a delivery: however long
    they wait, none is lost. The broker delivers nothing new while `limit` events wait; then the
    consumer waits as well, until an operator has replayed or discarded some dead letters.
    """

    def __init__(self, dead_letters: DeadLetters, limit: int) -> None:
        self._dead_letters = dead_letters
        self._limit = limit
        self._held: dict[int, tuple[Msg, int]] = {}

    @property
    def is_full(self) -> bool:
        """Whether so many events wait that the broker delivers no others."""
        return len(self._held) >= self._limit

    def hold(self, sequence: int, message: Msg) -> None:
        """Lets a message wait; its bytes are dropped, because it comes again with them."""
        size_bytes = len(message.data) + sum(
            len(k) + len(v) for k, v in (message.headers or {}).items()
        )
        message.data, message.headers = b"", None
        self._held[sequence] = message, size_bytes

    async def tend(self) -> None:
        """Extends the acknowledgement deadlines, and returns the events for which there is room."""
        if not self._held:
            return
        for message, _ in self._held.values():
            with suppress(NatsError):
                await message.in_progress()
        room = await self._find_room()
        for sequence, (message, size_bytes) in list(self._held.items()):
            left = room.take(size_bytes)
            if left is None:
                return
            room = left
            await self._release(sequence, message)

    async def release_all(self) -> None:
        """Returns all events to the bus, for other processes."""
        for sequence, (message, _) in list(self._held.items()):
            await self._release(sequence, message)

    async def _find_room(self) -> Room:
        try:
            return await self._dead_letters.find_room()
        except UnavailableError as error:
            log.warning("events.held", extra={"reason": error.reason})
            return NO_ROOM

    async def _release(self, sequence: int, message: Msg) -> None:
        del self._held[sequence]
        # Without a connection the broker delivers it again by itself.
        with suppress(NatsError):
            await message.nak(delay=RETURN_DELAY_S)
