"""The rules of upstream events that need nothing but the event; a test compares with ingest."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from aquifer.ingest.v1.upload_events_pb2 import (
    ContentReference,
    DocumentDescribed,
    DocumentRemoved,
    DocumentUploaded,
)
from aquifer.labels import find_problem
from aquifer.structs import JsonObject, JsonValue, to_json, to_struct

# Of the stream of uploads, headers included; the broker refuses a larger event.
EVENT_MAX_BYTES: Final = 512 * 1024
CONTENT_MAX_BYTES: Final = 256 * 1024
ORIGIN_MAX_BYTES: Final = 512
TEXTS_MAX_CHARS: Final = {
    "file_name": 255,
    "media_type": 255,
    "title": 512,
    "correlation_id": 128,
}
METADATA_MAX_PAIRS: Final = 32
METADATA_KEY_MAX_CHARS: Final = 64
METADATA_TEXT_MAX_CHARS: Final = 512
METADATA_LIST_MAX: Final = 64
METADATA_MAX_BYTES: Final = 16 * 1024
URI_MAX_CHARS: Final = 2_048
SCHEMES: Final = ("file", "https", "http", "s3")

UpstreamEvent = DocumentUploaded | DocumentRemoved | DocumentDescribed

_TENANT = re.compile(r"[a-z0-9-]{1,63}")
_PART = r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}"
_NAME = re.compile(f"collections/{_PART}/documents/{_PART}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with an event: the place, the reason that ingest gives, and what to do.

    A warning does not refuse the event.
    """

    at: str
    reason: str
    detail: str
    warning: bool = False


def check_origin(source: str, event_id: str) -> Iterator[Finding]:
    """Finds what is wrong with the identity of an event."""
    for name, text in (("source", source), ("id", event_id)):
        if len(text.encode()) > ORIGIN_MAX_BYTES or "\x00" in text:
            yield Finding(
                name, "UPLOAD_EVENT_ID", f"at most {ORIGIN_MAX_BYTES} bytes of UTF-8, no NUL"
            )


def check_message(event: UpstreamEvent, tenant: str) -> Iterator[Finding]:
    """Finds what is wrong with a decoded event; `tenant` is that of the subject, empty: unknown."""
    if tenant and event.tenant != tenant:
        yield Finding("tenant", "TENANT_MISMATCH", f"the subject is for the tenant {tenant}")
    elif not _TENANT.fullmatch(event.tenant):
        yield Finding("tenant", "TENANT_INVALID", "1 to 63 of a-z 0-9 and -")
    if not _NAME.fullmatch(event.document):
        shape = "collections/{collection}/documents/{document}"
        yield Finding("document", "DOCUMENT_NAME", f"{shape}; each part {_PART}")
    for name, limit in TEXTS_MAX_CHARS.items():
        text = getattr(event, name, "")  # not every event has every field
        if len(text) > limit or "\x00" in text:
            yield Finding(name, "METADATA_RANGE", f"at most {limit} characters, no NUL")
    if not isinstance(event, DocumentRemoved):
        yield from _check_metadata(to_json(event.metadata))
        if problem := find_problem(event.labels):
            yield Finding("labels", "LABELS_INVALID", problem)
    if isinstance(event, DocumentUploaded):
        yield from _check_content_or_reference(event)
    yield from _warn_unknown(event, "")


def _check_content_or_reference(event: DocumentUploaded) -> Iterator[Finding]:
    match event.WhichOneof("body"):
        case "content":
            yield from _check_content(event.content)
        case "reference":
            yield from _check_reference(event.reference)
        case _:
            yield Finding("content", "BODY_MISSING", "set content or reference")


def _check_metadata(metadata: JsonObject) -> Iterator[Finding]:
    if len(metadata) > METADATA_MAX_PAIRS:
        yield Finding("metadata", "METADATA_RANGE", f"at most {METADATA_MAX_PAIRS} pairs")
    for key, value in metadata.items():
        at = f"metadata.{key[:METADATA_KEY_MAX_CHARS]}"
        if not key or not _is_text(key, METADATA_KEY_MAX_CHARS):
            detail = f"keys have 1 to {METADATA_KEY_MAX_CHARS} characters, no NUL"
            yield Finding(at, "METADATA_RANGE", detail)
        if not _is_value(value):
            detail = (
                f"a string of up to {METADATA_TEXT_MAX_CHARS} characters without NUL, a finite"
                f" number, true or false, or a list of at most {METADATA_LIST_MAX} of these"
            )
            yield Finding(at, "METADATA_RANGE", detail)
    if (size := to_struct(metadata).ByteSize()) > METADATA_MAX_BYTES:
        detail = f"at most {METADATA_MAX_BYTES:,} bytes encoded, not {size:,}"
        yield Finding("metadata", "METADATA_RANGE", detail)


def _is_value(value: JsonValue) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return len(value) <= METADATA_LIST_MAX and all(map(_is_scalar, value))
    return _is_scalar(value)


def _is_scalar(value: JsonValue) -> bool:
    if isinstance(value, str):
        return _is_text(value, METADATA_TEXT_MAX_CHARS)
    return isinstance(value, int | float) and math.isfinite(value)


def _is_text(text: str, limit: int) -> bool:
    return len(text) <= limit and "\x00" not in text


def _check_content(content: bytes) -> Iterator[Finding]:
    if not content:
        yield Finding("content", "EMPTY_DOCUMENT", "the document has no bytes")
    if len(content) > CONTENT_MAX_BYTES:
        detail = f"at most {CONTENT_MAX_BYTES:,} bytes, not {len(content):,}; send a reference"
        yield Finding("content", "DOCUMENT_TOO_LARGE", detail)


def _check_reference(reference: ContentReference) -> Iterator[Finding]:
    if not _SHA256.fullmatch(reference.sha256):
        yield Finding("reference.sha256", "REFERENCE_INVALID", "64 hex digits in lower case")
    if reference.size_bytes < 1:
        yield Finding("reference.size_bytes", "REFERENCE_INVALID", "the size, at least 1")
    if len(reference.uri) > URI_MAX_CHARS:
        yield Finding("reference.uri", "REFERENCE_INVALID", f"at most {URI_MAX_CHARS} characters")
    if reference.uri.partition(":")[0].lower() not in SCHEMES:
        schemes = ", ".join(f"{one}://" for one in SCHEMES)
        yield Finding("reference.uri", "REFERENCE_SCHEME", f"begins with one of {schemes}")


def _warn_unknown(message: Message, at: str) -> Iterator[Finding]:
    """Fields that this version of the contract does not know; ingest ignores them."""
    unknown: Any = UnknownFieldSet(message)
    for field in unknown:
        detail = "this version of the contract has no field with this number; it is ignored"
        yield Finding(f"{at}#{field.field_number}", "FIELD_UNKNOWN", detail, warning=True)
    for descriptor, value in message.ListFields():
        inner: Any = value
        if isinstance(inner, Message) and not descriptor.is_repeated:
            yield from _warn_unknown(inner, f"{at}{descriptor.name}.")
