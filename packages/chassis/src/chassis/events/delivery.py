"""Events in hand: a delivery each, and the batch of one tenant in which a handler meets them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, overload

from opentelemetry.context import Context
from typing_extensions import override

from chassis.events.envelope import E, Envelope


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delivery(Generic[E]):
    """One event in hand.

    Args:
        event: the decoded body.
        envelope: what its headers say.
        consumer: the durable it came through.
        attempt: 1 for the first delivery.
        stored_ns: when the broker stored it, in nanoseconds since 1970: of two events in a stream
            the later one has the higher value, also in a stream that was made anew.
        context: trace context of its processing; what it causes continues there.
    """

    event: E
    envelope: Envelope
    consumer: str
    attempt: int
    stored_ns: int
    context: Context


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
