"""One event in hand, and the ways to act on it exactly once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from google.protobuf.message import Message

from chassis.events.envelope import Envelope, Outgoing, derived_id, outgoing
from chassis.events.inbox import AlreadyAppliedError, Effect, Inbox


class Delivery:
    """An event's envelope and the effects of handling it.

    A service with a database uses `once`; one without uses `publish`. What either of them emits is
    sent after the handler has returned and before the event is acknowledged.
    """

    def __init__(
        self, envelope: Envelope, *, consumer: str, inbox: Inbox | None, attempt: int
    ) -> None:
        self.envelope = envelope
        self.attempt = attempt
        self.outgoing: list[Outgoing] = []
        self._consumer = consumer
        self._inbox = inbox

    @asynccontextmanager
    async def once(self, *, document: str = "") -> AsyncIterator[Effect]:
        """The transaction of this event's effect: commits at most once; long work goes before it.

        When the effect is committed already, the handler ends here and its stored events are sent.
        `document` is whose inbox row this is, so that a delete can remove it.
        """
        if self._inbox is None:
            raise TypeError("a service without a database has no transactional effects")
        try:
            async with self._inbox.once(
                self.envelope.tenant, self.envelope.event_id, document
            ) as effect:
                yield effect
        except AlreadyAppliedError as done:
            self.outgoing = list(done.stored)
            raise
        self.outgoing += effect.events

    def publish(self, event: Message, *, document: str = "", part: object = 0) -> None:
        """Sends `event` under an id that follows from this event, the consumer and `part`.

        A redelivery repeats the same event, which the next consumer's inbox drops.
        """
        event_id = derived_id(self.envelope.event_id, self._consumer, part)
        self.outgoing.append(outgoing(event, event_id=event_id, document=document))

    async def sent(self) -> None:
        """Notes that the broker has everything; large stored events are forgotten."""
        if self._inbox is not None and self.outgoing:
            await self._inbox.published(self.envelope.tenant, self.envelope.event_id, self.outgoing)
