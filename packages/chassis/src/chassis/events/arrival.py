"""A message that was pulled, and the events in it: one event, or the events of a pack."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from nats.aio.msg import Msg

from chassis.events.envelope import Outgoing
from chassis.events.pack import read_event, unpack

_FIELDS_WITHOUT_DOMAIN = 9


@dataclass(slots=True, eq=False)
class Arrival:
    """A message from its arrival to its acknowledgement, which follows its last event.

    Args:
        message: as the broker delivered it.
        events: the events in it, at least one.
        attempt: delivery number, from 1.
        sequence: its sequence number in the stream.
        stored_ns: when the broker stored it, in nanoseconds since 1970.
    """

    message: Msg
    events: Sequence[Outgoing]
    attempt: int
    sequence: int
    stored_ns: int
    _open: int

    @classmethod
    def read(cls, message: Msg, *, may_be_pack: bool) -> Self:
        """Reads the delivery data of a message; its events stay encoded.

        The data is in the reply subject: `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.
        <deliveries>.<sequence>.<sequence of the consumer>.<time>.<pending>[.<random>]`.
        """
        fields = message.reply.split(".")
        first = 4 if len(fields) == _FIELDS_WITHOUT_DOMAIN else 6
        events = unpack(message) if may_be_pack else [read_event(message)]
        return cls(
            message=message,
            events=events,
            attempt=int(fields[first]),
            sequence=int(fields[first + 1]),
            stored_ns=int(fields[first + 3]),
            _open=len(events),
        )

    @property
    def is_pack(self) -> bool:
        """Whether several events share the acknowledgement of this message."""
        return len(self.events) > 1

    @property
    def size_bytes(self) -> int:
        """Size of the message, without its headers."""
        return len(self.message.data)

    async def acknowledge_one(self) -> None:
        """Counts one event as done; acknowledges the message after the last one."""
        self._open -= 1
        if not self._open and not self.message.is_acked:
            await self.message.ack()

    async def nak(self, delay_s: float) -> None:
        """Returns the message with all its events; the broker delivers it again after a delay."""
        if not self.message.is_acked:
            await self.message.nak(delay=delay_s)
