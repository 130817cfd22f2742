"""What a handler receives: a batch of one tenant, with a delivery for each event."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, overload

from opentelemetry.context import Context
from typing_extensions import override

from chassis.events.envelope import E, Envelope, Glimpse


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delivery(Generic[E]):
    """One delivery of an event.

    Args:
        event: the decoded body.
        envelope: attributes from its headers.
        consumer: the durable it came through.
        attempt: delivery number, from 1.
        stored_ns: when the broker stored it, in nanoseconds since 1970. Of two events in a stream
            the later one has the higher value, also after the stream was created again.
        context: trace context in which it is handled; events it causes continue this trace.
    """

    event: E
    envelope: Envelope
    consumer: str
    attempt: int
    stored_ns: int
    context: Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """An event that cannot be read.

    Args:
        tenant: last token of its subject; its publisher may publish for this tenant.
        seen: what can be read of it.
        sequence: its sequence number in the stream.
        stored_ns: when the broker stored it, in nanoseconds since 1970.
    """

    tenant: str
    seen: Glimpse
    sequence: int
    stored_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Batch(Sequence[Delivery[E]], Generic[E]):
    """Events of one kind and one tenant that are handled together, in the order of the stream."""

    tenant: str
    deliveries: Sequence[Delivery[E]]

    @overload
    def __getitem__(self, index: int) -> Delivery[E]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Delivery[E]]: ...
    @override
    def __getitem__(self, index: int | slice) -> Delivery[E] | Sequence[Delivery[E]]:
        return self.deliveries[index]

    @override
    def __len__(self) -> int:
        return len(self.deliveries)

    @override
    def __iter__(self) -> Iterator[Delivery[E]]:
        return iter(self.deliveries)


@dataclass(frozen=True, slots=True)
class Size:
    """Up to `batch` events in one group, up to `groups` groups at the same time."""

    batch: int
    groups: int
