"""The wire format of events: CloudEvents 1.0 with a protobuf body; uploads may also be JSON."""

import json
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.context import Context

from chassis.base import telemetry
from chassis.base.errors import InvalidInputError
from chassis.events import topology

EVENT_MAX_BYTES = 768 * 1024
SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/protobuf"
JSON_TYPE = "application/json"
STRUCTURED_TYPE = "application/cloudevents+json"
_IDS = uuid.UUID("6f1c0b4e-5a52-4c55-9c5f-2f2a2f6d8f10")
_PLAIN = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_REQUIRED = ("specversion", "id", "type", "source")

E = TypeVar("E", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An encoded event; every time it is sent it has the same bytes.

    `interactive`: someone waits for its effect, so the outbox releases it before others.
    """

    subject: str
    headers: Mapping[str, str]
    payload: bytes
    document: str = ""
    interactive: bool = False

    @property
    def kind(self) -> str:
        """Full proto name of its message."""
        return self.subject.rpartition(".")[0]

    @property
    def tenant(self) -> str:
        """Tenant of the event: the last token of its subject."""
        return self.subject.rpartition(".")[2]

    @property
    def size_bytes(self) -> int:
        """Size of the body; the headers add about 500 bytes."""
        return len(self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Attributes of an event from its subject and headers."""

    event_id: str
    event_type: str
    source: str
    tenant: str
    subject: str


def derive_id(*parts: object) -> str:
    """Derives an id (uuid5) from the parts, in order: equal parts give the same id."""
    return str(uuid.uuid5(_IDS, "\x1f".join(str(part) for part in parts)))


def encode_event(
    event: Message,
    *,
    event_id: str,
    document: str = "",
    context: Context | None = None,
    interactive: bool = False,
) -> Outgoing:
    """Encodes an event of this service; `context` is its trace, by default the current one.

    The message must have a `tenant` field. The broker id includes the tenant, so equal ids of two
    tenants are different events.

    Raises:
        InvalidInputError: EVENT_TOO_LARGE, above 768 KiB.
    """
    payload = event.SerializeToString(deterministic=True)
    if len(payload) > EVENT_MAX_BYTES:
        raise InvalidInputError(
            "EVENT_TOO_LARGE",
            f"{event.DESCRIPTOR.name} has {len(payload)} bytes; the limit is {EVENT_MAX_BYTES}",
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
        interactive=interactive,
    )


def read(
    event: type[E], subject: str, headers: Mapping[str, str], payload: bytes
) -> tuple[Envelope, E]:
    """Decodes an event and checks its type, and its tenant against its subject.

    Every event may be protobuf in binary mode. Events of upstream systems may also be proto JSON,
    in binary mode (`application/json`) or structured mode (`application/cloudevents+json`).

    Raises:
        InvalidInputError: EVENT_HEADER_MISSING, EVENT_SPEC_VERSION, EVENT_CONTENT_TYPE,
            SCHEMA_UNSUPPORTED (another type or major version), EVENT_UNDECODABLE, TENANT_MISMATCH.
    """
    found = _unescape(headers)
    form = _read_content_type(event, found)
    attributes = {name: found.get(f"ce-{name}", "") for name in _REQUIRED}
    data = None
    if form == STRUCTURED_TYPE:
        attributes, data = _open_structured(payload)
    _check_attributes(event, attributes)
    if form == CONTENT_TYPE:
        message = _parse(event, payload)
    else:
        message = _parse_json(event, _load_json(payload) if form == JSON_TYPE else data)
    tenant = subject.rsplit(".", 1)[-1]
    said = str(getattr(message, "tenant"))  # noqa: B009
    if said != tenant:
        raise InvalidInputError(
            "TENANT_MISMATCH", "the tenant in the body is not that of the subject", tenant=tenant
        )
    about = Envelope(
        event_id=attributes["id"],
        event_type=attributes["type"],
        source=attributes["source"],
        tenant=tenant,
        subject=subject,
    )
    return about, message


@dataclass(frozen=True, slots=True, kw_only=True)
class Glimpse:
    """What can be read of an event that may be unreadable; unchecked, and empty where unknown."""

    event_id: str = ""
    source: str = ""
    document: str = ""
    correlation_id: str = ""


def peek(event: type[Message], headers: Mapping[str, str], payload: bytes) -> Glimpse:
    """Reads what can be read of an event, whatever else is wrong with it."""
    found = _unescape(headers)
    attributes: Any = {"id": found.get("ce-id"), "source": found.get("ce-source")}
    body: Any = None
    with suppress(InvalidInputError):
        match _media_type(found):
            case "application/json":
                body = _load_json(payload)
            case "application/cloudevents+json":
                attributes = _load_json(payload)
                body = attributes.get("data") if isinstance(attributes, dict) else None
            case _:
                message = _parse(event, payload)
                body = {name: getattr(message, name, "") for name in ("document", "correlation_id")}
    return Glimpse(
        event_id=_find_text(attributes, "id"),
        source=_find_text(attributes, "source"),
        document=_find_text(body, "document"),
        correlation_id=_find_text(body, "correlation_id") or _find_text(body, "correlationId"),
    )


def _find_text(data: object, name: str) -> str:
    """A text in a JSON object; empty if there is none, or none that UTF-8 can encode."""
    text = data.get(name) if isinstance(data, dict) else None
    if not isinstance(text, str):
        return ""
    return text.encode(errors="ignore").decode()


def _unescape(headers: Mapping[str, str]) -> dict[str, str]:
    """Unescaped headers by their lower-case names."""
    return {
        key.lower(): unquote(value) if "%" in value else value for key, value in headers.items()
    }


def _media_type(headers: Mapping[str, str]) -> str:
    """The content type without its parameters; without a content type, an event is protobuf."""
    said = headers.get("content-type") or headers.get("ce-datacontenttype") or CONTENT_TYPE
    return said.partition(";")[0].strip().lower()


def _read_content_type(event: type[Message], headers: Mapping[str, str]) -> str:
    """Reads the content type and checks that this event may have it."""
    form = _media_type(headers)
    allowed = [CONTENT_TYPE]
    if topology.is_upload(event):
        allowed += [JSON_TYPE, STRUCTURED_TYPE]
    if form not in allowed:
        raise InvalidInputError(
            "EVENT_CONTENT_TYPE",
            f"send Content-Type {' or '.join(allowed)}, with a body of that type, not {form}",
            expected=",".join(allowed),
            found=form,
        )
    return form


def _check_attributes(event: type[Message], attributes: Mapping[str, str]) -> None:
    for name in _REQUIRED:
        if not attributes[name]:
            raise InvalidInputError(
                "EVENT_HEADER_MISSING",
                f"send ce-{name}, or {name} in structured mode",
                header=f"ce-{name}",
            )
    if attributes["specversion"] != SPEC_VERSION:
        raise InvalidInputError(
            "EVENT_SPEC_VERSION",
            f"send specversion {SPEC_VERSION}, not {attributes['specversion']}",
            expected=SPEC_VERSION,
            found=attributes["specversion"],
        )
    if attributes["type"] != event.DESCRIPTOR.full_name:
        raise InvalidInputError(
            "SCHEMA_UNSUPPORTED",
            f"send type {event.DESCRIPTOR.full_name}, not {attributes['type']}",
            expected=event.DESCRIPTOR.full_name,
            found=attributes["type"],
        )


def _open_structured(payload: bytes) -> tuple[dict[str, str], Any]:
    """The attributes and the data of an event in structured mode."""
    match _load_json(payload):
        case {"data": data, **rest} if rest.get("datacontenttype", JSON_TYPE) == JSON_TYPE:
            attributes: dict[str, Any] = {name: rest.get(name, "") for name in _REQUIRED}
        case _:
            raise _undecodable_error("send one JSON object whose `data` is the message as JSON")
    try:
        "".join(attributes.values()).encode()
    except (TypeError, UnicodeEncodeError) as error:
        raise _undecodable_error("the attributes of an event are strings") from error
    return attributes, data


def _load_json(payload: bytes) -> Any:
    try:
        return json.loads(payload.decode())
    except (ValueError, RecursionError) as error:
        raise _undecodable_error("the body is not JSON in UTF-8") from error


def _parse(event: type[E], payload: bytes) -> E:
    try:
        return event.FromString(payload)
    except DecodeError as error:
        raise _undecodable_error(f"the body is not {event.DESCRIPTOR.full_name}") from error


def _parse_json(event: type[E], data: object) -> E:
    """Parses a message from proto JSON; unknown fields are refused."""
    wrong = f"the JSON is not {event.DESCRIPTOR.full_name}: check the names and types of its fields"
    if not isinstance(data, dict) or not _is_base64(event, data):
        raise _undecodable_error(wrong)
    try:
        return json_format.ParseDict(data, event())
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        raise _undecodable_error(wrong) from error


def _is_base64(event: type[Message], data: Mapping[str, Any]) -> bool:
    """Whether all bytes fields are valid base64: the parser would skip other characters."""
    given = [
        data.get(name)
        for field in event.DESCRIPTOR.fields
        if field.type == field.TYPE_BYTES
        for name in (field.name, field.json_name)
    ]
    return all(_BASE64.fullmatch(text) for text in given if isinstance(text, str))


def _undecodable_error(detail: str) -> InvalidInputError:
    return InvalidInputError("EVENT_UNDECODABLE", detail)
