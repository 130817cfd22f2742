"""Checks the events of upstream systems as ingest does, without a running stack."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import unquote

from google.protobuf.message import DecodeError

from aquifer.ingest.v1.upload_events_pb2 import (
    ContentReference,
    DocumentDescribed,
    DocumentRemoved,
    DocumentUploaded,
)
from aquifer_cli import event_rules, event_shape
from aquifer_cli.event_rules import EVENT_MAX_BYTES, Finding, UpstreamEvent
from aquifer_cli.event_shape import UNDECODABLE

Kind = type[UpstreamEvent]
KINDS: Final[Mapping[str, Kind]] = {
    kind.DESCRIPTOR.name: kind for kind in (DocumentUploaded, DocumentRemoved, DocumentDescribed)
}
SPEC_VERSION: Final = "1.0"
PROTOBUF: Final = "application/protobuf"
JSON: Final = "application/json"
STRUCTURED: Final = "application/cloudevents+json"
_REQUIRED: Final = ("specversion", "id", "type", "source")
_JSON_NAMES: Final = {
    **{one.name: one.json_name for kind in KINDS.values() for one in kind.DESCRIPTOR.fields},
    **{
        f"reference.{one.name}": f"reference.{one.json_name}"
        for one in ContentReference.DESCRIPTOR.fields
    },
}
_OPTIONAL: Final = ("subject", "time", "datacontenttype", "dataschema", "data", "data_base64")


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of an event, and what is wrong with it, in the order of ingest's checks."""

    event_id: str = ""
    document: str = ""
    findings: Sequence[Finding] = field(default_factory=list)

    @property
    def is_valid(self) -> bool:
        """Whether ingest would accept it, if its tenant and content can be read."""
        return all(one.warning for one in self.findings)


def check(
    payload: bytes, headers: Mapping[str, str], tenant: str, kind: Kind | None = None
) -> Report:
    """Checks one event.

    Args:
        payload: the body of the message.
        headers: of the message; without any, the envelope of an event in binary mode is unknown and
            only its body is checked.
        tenant: last token of the subject; empty if it is unknown.
        kind: that of the subject; None: the one that the event names, else an upload.
    """
    size = len(payload) + sum(len(f"{name}{value}".encode()) + 4 for name, value in headers.items())
    if size > EVENT_MAX_BYTES:
        detail = f"{size:,} bytes; the broker refuses more than {EVENT_MAX_BYTES:,}"
        return Report(findings=[Finding("", "EVENT_TOO_LARGE", detail)])
    if not headers:
        return _check_bare(payload, tenant, kind)
    found = {name.lower(): unquote(value) for name, value in headers.items()}
    said = found.get("content-type") or found.get("ce-datacontenttype") or PROTOBUF
    form = said.partition(";")[0].strip().lower()
    if form not in (PROTOBUF, JSON, STRUCTURED):
        detail = f"{PROTOBUF}, {JSON} or {STRUCTURED}, not {form}"
        return Report(findings=[Finding("Content-Type", "EVENT_CONTENT_TYPE", detail)])
    if form == STRUCTURED:
        return _check_structured(payload, tenant, kind)
    attributes = {name: found.get(f"ce-{name}", "") for name in _REQUIRED}
    meant = kind or _find_kind(attributes["type"])
    envelope = [*_check_attributes(meant, attributes, "ce-"), *_warn_names(found, "ce-", "ce-")]
    check_form = _check_protobuf if form == PROTOBUF else _check_json
    body = check_form(meant, payload, tenant)
    return Report(attributes["id"], body.document, [*envelope, *body.findings])


def is_json(payload: bytes) -> bool:
    """Whether bytes without headers are meant as JSON: protobuf never begins like that."""
    return payload.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def _find_kind(type_name: str) -> Kind:
    """The kind of event with this full name; an upload if there is none."""
    for kind in KINDS.values():
        if kind.DESCRIPTOR.full_name == type_name:
            return kind
    return DocumentUploaded


def _check_bare(payload: bytes, tenant: str, kind: Kind | None) -> Report:
    if not is_json(payload):
        return _check_protobuf(kind or DocumentUploaded, payload, tenant)
    data, findings = _load(payload)
    if findings:
        return Report(findings=findings)
    if isinstance(data, dict) and ("specversion" in data or "data" in data):
        return _check_structured(payload, tenant, kind)
    return _check_body(kind or DocumentUploaded, data, tenant, "$.")


def _check_structured(payload: bytes, tenant: str, kind: Kind | None) -> Report:
    data, findings = _load(payload)
    if findings:
        return Report(findings=findings)
    if not isinstance(data, dict) or "data" not in data:
        detail = "one object with the message as JSON in its attribute `data`"
        return Report(findings=[Finding("$", UNDECODABLE, detail)])
    findings = [*_check_structure(data)]
    attributes = {name: data.get(name, "") for name in _REQUIRED}
    if findings:
        return Report(findings=findings)
    meant = kind or _find_kind(attributes["type"])
    findings = [*_check_attributes(meant, attributes, "$."), *_warn_names(data, "", "$.")]
    body = _check_body(meant, data["data"], tenant, "$.data.")
    return Report(attributes["id"], body.document, [*findings, *body.findings])


def _check_structure(data: Mapping[str, Any]) -> Iterator[Finding]:
    if data.get("datacontenttype", JSON) != JSON:
        yield Finding("$.datacontenttype", UNDECODABLE, f"{JSON}: `data` is the message as JSON")
    for name in _REQUIRED:
        value = data.get(name, "")
        if not isinstance(value, str) or _has_surrogates(value):
            yield Finding(f"$.{name}", UNDECODABLE, "a text")


def _check_attributes(kind: Kind, attributes: Mapping[str, str], prefix: str) -> Iterator[Finding]:
    for name in _REQUIRED:
        if not attributes[name]:
            yield Finding(f"{prefix}{name}", "EVENT_HEADER_MISSING", "required by CloudEvents 1.0")
    if (version := attributes["specversion"]) not in ("", SPEC_VERSION):
        detail = f"{SPEC_VERSION}, not {version}"
        yield Finding(f"{prefix}specversion", "EVENT_SPEC_VERSION", detail)
    expected = kind.DESCRIPTOR.full_name
    if (found := attributes["type"]) not in ("", expected):
        yield Finding(f"{prefix}type", "SCHEMA_UNSUPPORTED", f"{expected}, not {found}")
    for one in event_rules.check_origin(attributes["source"], attributes["id"]):
        yield Finding(f"{prefix}{one.at}", one.reason, one.detail)


def _warn_names(given: Mapping[str, Any], prefix: str, at: str) -> Iterator[Finding]:
    """Attributes that look like misspelt ones, and names that CloudEvents does not allow."""
    names = [one.removeprefix(prefix) for one in given if one.startswith(prefix)]
    for name in names:
        if name in _REQUIRED or name in _OPTIONAL:
            continue
        missing = [one for one in _REQUIRED if one not in names]
        near = get_close_matches(name.lower(), missing, n=1, cutoff=0.7)
        if near:
            yield Finding(f"{at}{name}", "ATTRIBUTE_NAME", f"did you mean {near[0]}?", warning=True)
        elif not (name.isascii() and name.isalnum() and name.lower() == name):
            detail = "CloudEvents allows a-z and 0-9 in the name of an attribute"
            yield Finding(f"{at}{name}", "ATTRIBUTE_NAME", detail, warning=True)


def _check_json(kind: Kind, payload: bytes, tenant: str) -> Report:
    data, findings = _load(payload)
    return Report(findings=findings) if findings else _check_body(kind, data, tenant, "$.")


def _check_body(kind: Kind, data: object, tenant: str, prefix: str) -> Report:
    event = event_shape.parse(kind, data)
    if not isinstance(event, list):
        found = event_rules.check_message(event, tenant)
        return Report("", event.document, [_place(one, prefix) for one in found])
    document = data.get("document") if isinstance(data, dict) else ""
    name = document if isinstance(document, str) else ""
    return Report("", name, [_place(one, prefix) for one in event])


def _place(found: Finding, prefix: str) -> Finding:
    """A finding with its place in the JSON, by the names of protobuf's JSON mapping."""
    at = (prefix + _JSON_NAMES.get(found.at, found.at)).rstrip(".")
    return Finding(at, found.reason, found.detail, found.warning)


def _check_protobuf(kind: Kind, payload: bytes, tenant: str) -> Report:
    try:
        event = kind.FromString(payload)
    except DecodeError:
        detail = f"the bytes are not {kind.DESCRIPTOR.full_name}"
        return Report(findings=[Finding("", UNDECODABLE, detail)])
    return Report("", event.document, [*event_rules.check_message(event, tenant)])


def _load(payload: bytes) -> tuple[Any, list[Finding]]:
    try:
        return json.loads(payload.decode()), []
    except (ValueError, RecursionError) as error:
        return None, [Finding("$", UNDECODABLE, f"not JSON in UTF-8: {error}")]


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
