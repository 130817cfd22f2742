"""An event on the wire: a protobuf body under CloudEvents 1.0 headers (binary mode)."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote, unquote

from google.protobuf.message import DecodeError, Message
from opentelemetry.context import Context

from chassis.base import telemetry
from chassis.base.errors import InvalidInputError
from chassis.events import topology

EVENT_MAX_BYTES = 768 * 1024
SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/protobuf"
_IDS = uuid.UUID("6f1c0b4e-5a52-4c55-9c5f-2f2a2f6d8f10")
_PLAIN = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')

E = TypeVar("E", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An event encoded as it travels; the same bytes however often it is sent."""

    subject: str
    headers: Mapping[str, str]
    payload: bytes
    document: str = ""

    @property
    def kind(self) -> str:
        """Full name of its message."""
        return self.subject.rpartition(".")[0]

    @property
    def tenant(self) -> str:
        """Whose it is: the last token of the subject."""
        return self.subject.rpartition(".")[2]

    @property
    def size_bytes(self) -> int:
        """Bytes of the body; the headers have some 500 more."""
        return len(self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What an event's subject and headers say of it."""

    event_id: str
    event_type: str
    source: str
    tenant: str
    subject: str


def derived_id(*parts: object) -> str:
    """An id that is the same for the same parts: uuid5 over them, in order."""
    return str(uuid.uuid5(_IDS, "\x1f".join(str(part) for part in parts)))


def outgoing(
    event: Message, *, event_id: str, document: str = "", context: Context | None = None
) -> Outgoing:
    """Wraps an event of this service for its subject, in a trace, by default the current one.

    The message must have a `tenant` field. Its broker id bears the tenant, so two tenants never
    shadow one another.

    Raises:
        InvalidInputError: EVENT_TOO_LARGE, above 768 KiB.
    """
    payload = event.SerializeToString(deterministic=True)
    if len(payload) > EVENT_MAX_BYTES:
        raise InvalidInputError(
            "EVENT_TOO_LARGE",
            f"{event.DESCRIPTOR.name} has {len(payload)} bytes, the limit is {EVENT_MAX_BYTES}",
            size_bytes=len(payload),
            max_bytes=EVENT_MAX_BYTES,
        )
    tenant = str(getattr(event, "tenant"))  # noqa: B009  (every event has it; not in the base type)
    name = event.DESCRIPTOR.full_name
    headers = {
        "Nats-Msg-Id": f"{tenant}.{event_id}",
        "ce-specversion": SPEC_VERSION,
        "ce-id": event_id,
        "ce-type": name,
        "ce-source": f"/aquifer/{topology.publisher(type(event))}",
        "ce-time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ce-dataschema": name,
        "Content-Type": CONTENT_TYPE,
    }
    if document:
        headers["ce-subject"] = quote(document, safe=_PLAIN)
    telemetry.inject(headers, context)
    return Outgoing(
        subject=topology.subject(type(event), tenant),
        headers=headers,
        payload=payload,
        document=document,
    )


def envelope(event: type[Message], subject: str, headers: Mapping[str, str]) -> Envelope:
    """Reads the envelope of an event and refuses one that is not `event`.

    Raises:
        InvalidInputError: EVENT_HEADER_MISSING, EVENT_SPEC_VERSION, SCHEMA_UNSUPPORTED (another
            type or major version), EVENT_CONTENT_TYPE.
    """
    found = {
        key.lower(): unquote(value) if "%" in value else value for key, value in headers.items()
    }
    for required in ("ce-specversion", "ce-id", "ce-type", "ce-source"):
        if not found.get(required):
            raise InvalidInputError(
                "EVENT_HEADER_MISSING", f"the event lacks the header {required}", header=required
            )
    if found["ce-specversion"] != SPEC_VERSION:
        raise InvalidInputError(
            "EVENT_SPEC_VERSION",
            f"send ce-specversion {SPEC_VERSION}, not {found['ce-specversion']}",
            expected=SPEC_VERSION,
            found=found["ce-specversion"],
        )
    if found["ce-type"] != event.DESCRIPTOR.full_name:
        raise InvalidInputError(
            "SCHEMA_UNSUPPORTED",
            f"this consumer reads {event.DESCRIPTOR.full_name}, the event says {found['ce-type']}",
            expected=event.DESCRIPTOR.full_name,
            found=found["ce-type"],
        )
    _check_content_type(found)
    return Envelope(
        event_id=found["ce-id"],
        event_type=found["ce-type"],
        source=found["ce-source"],
        tenant=subject.rsplit(".", 1)[-1],
        subject=subject,
    )


def _check_content_type(headers: Mapping[str, str]) -> None:
    """An event without a content type is protobuf."""
    found = headers.get("content-type") or headers.get("ce-datacontenttype") or CONTENT_TYPE
    if found.partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise InvalidInputError(
            "EVENT_CONTENT_TYPE",
            f"send Content-Type {CONTENT_TYPE} and a protobuf body, not {found}",
            expected=CONTENT_TYPE,
            found=found,
        )


def decode(event: type[E], payload: bytes, tenant: str) -> E:
    """Parses an event's body and checks that it belongs to the tenant of its subject.

    Raises:
        InvalidInputError: EVENT_UNDECODABLE, TENANT_MISMATCH.
    """
    try:
        message = event.FromString(payload)
    except DecodeError as error:
        raise InvalidInputError(
            "EVENT_UNDECODABLE", f"the body is no {event.DESCRIPTOR.full_name}"
        ) from error
    said = str(getattr(message, "tenant"))  # noqa: B009
    if said != tenant:
        raise InvalidInputError(
            "TENANT_MISMATCH", "the body names another tenant than the subject", tenant=tenant
        )
    return message
