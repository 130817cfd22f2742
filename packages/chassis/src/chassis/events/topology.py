"""The streams, durables and NATS permissions that follow from the contract.

They are derived from the `aquifer.bus.v1.event` option of the event messages, so a new event needs
no entry here.
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import cast

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from aquifer import services
from aquifer.bus.v1 import event_options_pb2
from aquifer.bus.v1.event_options_pb2 import (
    STREAM_CLASS_FACTS,
    STREAM_CLASS_UPLOADS,
    STREAM_CLASS_WORK,
    EventOptions,
    StreamClass,
)

ACK_WAIT_S = 10.0
MAX_DELIVER = 100
MAX_ACK_PENDING = 512
UPLOADS_PER_TENANT = 4096

_DAY_S = 86_400.0
_KIB = 1 << 10
_MIB = 1 << 20
# Headers included. The broker accepts at most 1 MiB; a dead letter is an event with more headers.
_UPLOAD_MAX_BYTES = 512 * _KIB
_EVENT_MAX_BYTES = 800 * _KIB
_DEAD_MAX_BYTES = _MIB
# Services with a cache on the broker, and those with a state that their replicas share.
_CACHING = ("inference",)
_STATEFUL = ("inference",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Declaration of a JetStream stream; sizes in bytes, times in seconds."""

    name: str
    subjects: tuple[str, ...]
    retention: str
    discard: str
    max_age_s: float
    max_bytes: int
    max_msg_bytes: int
    duplicate_window_s: float
    max_msgs_per_subject: int = -1
    discard_new_per_subject: bool = False
    allow_direct: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """Declaration of a durable pull consumer."""

    name: str
    stream: str
    subject: str
    service: str
    ack_wait_s: float = ACK_WAIT_S
    max_deliver: int = MAX_DELIVER
    max_ack_pending: int = MAX_ACK_PENDING


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """Everything a NATS user may do; all else is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


Event = type[Message] | Descriptor


def descriptor_of(event: Event) -> Descriptor:
    """Descriptor of a generated class; a descriptor is returned as it is."""
    return cast(Descriptor, event if isinstance(event, Descriptor) else event.DESCRIPTOR)


def options(event: Event) -> EventOptions:
    """Options of an event; all fields are unset for a message that is not an event."""
    return descriptor_of(event).GetOptions().Extensions[event_options_pb2.event]


def publisher(event: Event) -> str:
    """Service that publishes an event: the second part of its package."""
    return descriptor_of(event).full_name.split(".")[1]


def subject(event: Event, tenant: str) -> str:
    """Subject of an event of a tenant; `*` matches all tenants."""
    descriptor = descriptor_of(event)
    return f"{descriptor.full_name}.{tenant}"


def is_work(event: Event) -> bool:
    """Whether an event stays in a work queue until it is acknowledged."""
    return bool(options(event).stream_class == STREAM_CLASS_WORK)


def is_upload(event: Event) -> bool:
    """Whether upstream systems publish an event."""
    return bool(options(event).stream_class == STREAM_CLASS_UPLOADS)


def stream_name(event: Event) -> str:
    """Name of the stream that stores an event."""
    match options(event).stream_class:
        case event_options_pb2.STREAM_CLASS_UPLOADS:
            return "UPLOADS"
        case event_options_pb2.STREAM_CLASS_WORK:
            return f"WORK_{publisher(event).upper()}"
        case event_options_pb2.STREAM_CLASS_FACTS:
            return f"FACTS_{publisher(event).upper()}"
        case unknown:
            raise ValueError(f"{descriptor_of(event).full_name} has no stream class ({unknown})")


def durable_of(event: Event, service: str) -> Durable:
    """The durable through which `service` consumes `event`."""
    descriptor = descriptor_of(event)
    return Durable(
        name=f"{service}-{descriptor.name}",
        stream=stream_name(descriptor),
        subject=subject(descriptor, "*"),
        service=service,
    )


def dead_stream(service: str) -> str:
    """Name of the stream for the dead letters of a consuming service."""
    return f"DEAD_{service.upper()}"


def dead_subject(service: str, event_name: str, tenant: str) -> str:
    """Subject of a dead letter."""
    return f"aquifer.dead.{service}.{event_name}.{tenant}"


def cache_stream(service: str) -> str:
    """Name of the stream in which the replicas of a service share what they computed."""
    return f"CACHE_{service.upper()}"


def cache_subject(service: str, tenant: str, *parts: str) -> str:
    """Subject of one value in it; the last part may be `>`."""
    return ".".join(("aquifer.cache", service, tenant, *parts))


def state_stream(service: str) -> str:
    """Name of the stream with the settings of a service that are changed while it runs."""
    return f"STATE_{service.upper()}"


def state_subject(service: str, *parts: str) -> str:
    """Subject of one of them; the last part may be `>`."""
    return ".".join(("aquifer.state", service, *parts))


@cache
def events() -> tuple[Descriptor, ...]:
    """Every event message of the contract, sorted by full name."""
    found = (
        message
        for module in _event_modules()
        for message in importlib.import_module(module).DESCRIPTOR.message_types_by_name.values()
        if options(message).stream_class
    )
    return tuple(sorted(found, key=lambda message: str(message.full_name)))


def _event_modules() -> Iterator[str]:
    """Names of the installed modules `aquifer.<service>.v<N>.<noun>_events_pb2`."""
    for service in resources.files("aquifer").iterdir():
        for version in service.iterdir() if service.is_dir() else ():
            for file in version.iterdir() if version.is_dir() else ():
                if file.name.endswith("_events_pb2.py"):
                    yield f"aquifer.{service.name}.{version.name}.{file.name.removesuffix('.py')}"


def event_class(full_name: str) -> type[Message] | None:
    """Generated class of an event; None if the contract has no such event."""
    for event in events():
        if event.full_name == full_name:
            return message_factory.GetMessageClass(event)
    return None


def streams() -> tuple[Stream, ...]:
    """Every stream of the contract, those of dead letters, caches and states included."""
    subjects: dict[str, list[str]] = {}
    classes: dict[str, StreamClass.ValueType] = {}
    for event in events():
        name = stream_name(event)
        subjects.setdefault(name, []).append(subject(event, "*"))
        classes[name] = options(event).stream_class
    living = [_stream(name, classes[name], found) for name, found in sorted(subjects.items())]
    dead = [
        Stream(
            name=dead_stream(service),
            subjects=(f"aquifer.dead.{service}.>",),
            retention="limits",
            discard="new",
            max_age_s=90 * _DAY_S,
            max_bytes=256 * _MIB,
            max_msg_bytes=_DEAD_MAX_BYTES,
            duplicate_window_s=600,
        )
        for service in sorted({durable.service for durable in durables()})
    ]
    caches = [
        Stream(
            name=cache_stream(service),
            subjects=(cache_subject(service, "*", ">"),),
            retention="limits",
            discard="old",
            max_age_s=30 * _DAY_S,
            max_bytes=256 * _MIB,
            max_msg_bytes=64 * _KIB,
            duplicate_window_s=1,
            max_msgs_per_subject=1,
            allow_direct=True,
        )
        for service in _CACHING
    ]
    states = [
        Stream(
            name=state_stream(service),
            subjects=(state_subject(service, ">"),),
            retention="limits",
            discard="new",
            max_age_s=0,
            max_bytes=64 * _MIB,
            max_msg_bytes=512 * _KIB,
            duplicate_window_s=1,
            max_msgs_per_subject=1,
            allow_direct=True,
        )
        for service in _STATEFUL
    ]
    return (*living, *dead, *caches, *states)


def _stream(name: str, stream_class: StreamClass.ValueType, subjects: Iterable[str]) -> Stream:
    """A stream with the settings of its class.

    Uploads are refused when the stream is full, work is deleted when acknowledged, facts expire.
    """
    per_class = {
        STREAM_CLASS_UPLOADS: Stream(
            name=name,
            subjects=tuple(subjects),
            retention="workqueue",
            discard="new",
            max_age_s=0,
            max_bytes=2048 * _MIB,
            max_msg_bytes=_UPLOAD_MAX_BYTES,
            duplicate_window_s=120,
            max_msgs_per_subject=UPLOADS_PER_TENANT,
            discard_new_per_subject=True,
        ),
        STREAM_CLASS_WORK: Stream(
            name=name,
            subjects=tuple(subjects),
            retention="workqueue",
            discard="new",
            max_age_s=7 * _DAY_S,
            max_bytes=1024 * _MIB,
            max_msg_bytes=_EVENT_MAX_BYTES,
            duplicate_window_s=600,
        ),
        STREAM_CLASS_FACTS: Stream(
            name=name,
            subjects=tuple(subjects),
            retention="limits",
            discard="old",
            max_age_s=30 * _DAY_S,
            max_bytes=512 * _MIB,
            max_msg_bytes=_EVENT_MAX_BYTES,
            duplicate_window_s=600,
        ),
    }
    return per_class[stream_class]


def durables() -> tuple[Durable, ...]:
    """Every durable of the contract."""
    return tuple(
        durable_of(event, service) for event in events() for service in options(event).consumers
    )


def has_durables(service: str) -> bool:
    """Whether a service has durables, and therefore a stream of dead letters."""
    return any(durable.service == service for durable in durables())


def broadcasts() -> tuple[Descriptor, ...]:
    """Events that every process receives on core NATS."""
    return tuple(event for event in events() if options(event).broadcast)


def own_facts(service: str) -> tuple[Descriptor, ...]:
    """Facts that `service` publishes; its replicas learn of each other's commits from them."""
    return tuple(
        event
        for event in events()
        if publisher(event) == service and options(event).stream_class == STREAM_CLASS_FACTS
    )


def inbox_prefix(user: str) -> str:
    """Prefix of the private reply subjects of a NATS user."""
    return f"_INBOX_{user}"


def permissions() -> Mapping[str, Permissions]:
    """Permissions of each service and of the provisioning step, by NATS user name."""
    grants = {service: _service_permissions(service) for service in services.NAMES}
    grants["provisioner"] = Permissions(
        publish=("$JS.API.>",), subscribe=(f"{inbox_prefix('provisioner')}.>",)
    )
    return grants


def _service_permissions(service: str) -> Permissions:
    publish = [subject(event, "*") for event in events() if publisher(event) == service]
    # Every service can read how far others have come: this distinguishes lost from waiting work.
    publish += sorted({f"$JS.API.STREAM.INFO.{stream_name(event)}" for event in events()})
    publish += [f"$JS.API.CONSUMER.INFO.{one.stream}.{one.name}" for one in durables()]
    own = [durable for durable in durables() if durable.service == service]
    # A consumer publishes a failed event of a pack again as a single event.
    publish += [
        subject(event, "*")
        for event in events()
        if is_work(event) and service in options(event).consumers
    ]
    for durable in own:
        publish += [
            f"$JS.API.CONSUMER.MSG.NEXT.{durable.stream}.{durable.name}",
            f"$JS.ACK.{durable.stream}.{durable.name}.>",
        ]
    if own:
        dead = dead_stream(service)
        publish += [
            f"aquifer.dead.{service}.>",
            f"$JS.API.STREAM.INFO.{dead}",
            f"$JS.API.STREAM.MSG.GET.{dead}",
            f"$JS.API.STREAM.MSG.DELETE.{dead}",
        ]
    if service in _CACHING:
        publish += [
            cache_subject(service, "*", ">"),
            f"$JS.API.DIRECT.GET.{cache_stream(service)}",
            f"$JS.API.STREAM.PURGE.{cache_stream(service)}",
        ]
    received = {subject(event, "*"): None for event in (*broadcasts(), *own_facts(service))}
    if service in _STATEFUL:
        publish += [
            state_subject(service, ">"),
            f"$JS.API.DIRECT.GET.{state_stream(service)}",
            f"$JS.API.STREAM.PURGE.{state_stream(service)}",
        ]
        received[state_subject(service, ">")] = None
    return Permissions(publish=tuple(publish), subscribe=(f"{inbox_prefix(service)}.>", *received))


def upstream_permissions(tenant: str) -> Permissions:
    """Permissions of an upstream system of one tenant: publish uploads, receive their results."""
    public = [event for event in events() if options(event).public]
    uploads = [e for e in public if options(e).stream_class == STREAM_CLASS_UPLOADS]
    results = [e for e in public if options(e).stream_class != STREAM_CLASS_UPLOADS]
    return Permissions(
        publish=tuple(subject(event, tenant) for event in uploads),
        subscribe=("_INBOX.>", *(subject(event, tenant) for event in results)),
    )
