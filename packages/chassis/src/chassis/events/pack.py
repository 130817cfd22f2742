"""Packs: several events in one message, which the broker stores, delivers and acknowledges once.

A pack is tried once. A failed event of it, and every event of a pack that is delivered again, is
published as a single event. Retries and dead letters are about single events only.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache

from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from nats.js.api import RawStreamMsg

from aquifer.bus.v1.event_pack_pb2 import EventPack, PackedEvent
from chassis.events import topology
from chassis.events.envelope import Outgoing, derive_id

CONTENT_TYPE = "application/vnd.aquifer.event-pack"
PACK_MAX_EVENTS = 16
# Large events gain nothing from sharing a message.
PACK_MAX_BYTES = 128 << 10
_HEADERS_BYTES = 512


def group(events: Sequence[Outgoing]) -> Sequence[Sequence[Outgoing]]:
    """Groups events that may share a message; the order of each subject is kept.

    Subjects with few events come first, so that a tenant does not wait behind another's packs.
    """
    by_subject: defaultdict[str, list[Outgoing]] = defaultdict(list)
    for event in events:
        by_subject[event.subject].append(event)
    return [part for mine in sorted(by_subject.values(), key=len) for part in _split(mine)]


def _split(events: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    if not _may_be_packed(events[0].kind):
        yield from ([event] for event in events)
        return
    part: list[Outgoing] = []
    size = 0
    for event in events:
        size += event.size_bytes + _HEADERS_BYTES
        if part and (len(part) == PACK_MAX_EVENTS or size > PACK_MAX_BYTES):
            yield part
            part, size = [], event.size_bytes + _HEADERS_BYTES
        part.append(event)
    yield part


@cache
def _may_be_packed(kind: str) -> bool:
    event = topology.event_class(kind)
    return event is not None and topology.is_work(event)


def pack(events: Sequence[Outgoing]) -> Outgoing:
    """Packs events of one subject into one message; a single event is returned as it is.

    Repeated events are packed once. The same events in the same order give the same broker id.
    """
    unique = {event.headers["Nats-Msg-Id"]: event for event in events}
    if len(unique) == 1:
        return events[0]
    packed = EventPack(
        events=[PackedEvent(headers=one.headers, body=one.payload) for one in unique.values()]
    )
    return Outgoing(
        subject=events[0].subject,
        headers={"Nats-Msg-Id": f"pack.{derive_id(*unique)}", "Content-Type": CONTENT_TYPE},
        payload=packed.SerializeToString(),
    )


def read_event(message: Msg | RawStreamMsg) -> Outgoing:
    """Reads a message as one event, without looking at its content type."""
    return Outgoing(
        subject=message.subject or "", headers=message.headers or {}, payload=message.data or b""
    )


def unpack(message: Msg | RawStreamMsg) -> Sequence[Outgoing]:
    """The events in a message: those of a pack, or the message itself.

    A pack that cannot be decoded is returned as one event, which then cannot be read either.
    """
    itself = read_event(message)
    if itself.headers.get("Content-Type") != CONTENT_TYPE:
        return [itself]
    try:
        packed = EventPack.FromString(itself.payload)
    except DecodeError:
        return [itself]
    return [
        Outgoing(subject=itself.subject, headers=dict(event.headers), payload=event.body)
        for event in packed.events
    ] or [itself]
