"""`aquifer events check` refuses exactly the events that ingest refuses, for its reasons."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context

from aquifer.ingest.v1.upload_events_pb2 import (
    ContentReference,
    DocumentDescribed,
    DocumentRemoved,
    DocumentUploaded,
)
from aquifer_cli import event_check
from aquifer_cli.event_check import Kind
from chassis.base.errors import ServiceError
from chassis.events import envelope, topology
from chassis.events.delivery import Delivery
from ingest.domain import Object, Origin, Reference
from ingest.references.reader import open_references
from ingest.usecases.deletion.remove_document import read_removal
from ingest.usecases.documents.describe_document import read_description
from ingest.usecases.uploads.accept_document import _check_bytes
from ingest.usecases.uploads.accept_upload import read_upload

TENANT = "acme"
NAME = "collections/reports/documents/q3"
KIND = DocumentUploaded.DESCRIPTOR.full_name
BASE: dict[str, Any] = {"tenant": TENANT, "document": NAME, "content": "V2F0ZXI="}
REFERENCE = {"uri": "https://files.example.com/a", "sha256": "0" * 64, "sizeBytes": "5"}
OPEN = open_references(None, "https://* http://* s3://bucket", "")
# Told by the checker alone: ingest never receives such an event.
NOT_RECEIVED = {"TENANT_INVALID", "EVENT_TOO_LARGE"}


def ingest_reason(kind: Kind, payload: bytes, headers: Mapping[str, str]) -> str:
    """The reason for which ingest refuses an event; empty if it accepts it."""
    try:
        about, event = envelope.read(
            kind, f"{kind.DESCRIPTOR.full_name}.{TENANT}", headers, payload
        )
        delivery: Delivery[Any] = Delivery(
            event=event,
            envelope=about,
            consumer=f"ingest-{kind.DESCRIPTOR.name}",
            attempt=1,
            stored_ns=1,
            context=Context(),
        )
        origin = Origin(source=about.source, request_id=about.event_id)
        READERS[kind](delivery, origin)
    except ServiceError as error:
        return error.reason
    return ""


def read_whole_upload(delivery: Delivery[Any], origin: Origin) -> None:
    _, body = read_upload(delivery, origin, "")
    if isinstance(body, Reference):
        if not body.uri.startswith("file://"):
            OPEN.check(body)
    elif not body:
        _check_bytes(Object(key="", size_bytes=0, sha256=""), None)


READERS: dict[Kind, Callable[[Delivery[Any], Origin], object]] = {
    DocumentUploaded: read_whole_upload,
    DocumentRemoved: read_removal,
    DocumentDescribed: read_description,
}


def compare(
    payload: bytes, headers: Mapping[str, str], kind: Kind = DocumentUploaded, *, said: bool = False
) -> str:
    """The reason of ingest, which must be among those of the checker; `said`: the kind is known."""
    report = event_check.check(payload, headers, TENANT, kind if said else None)
    told = {one.reason for one in report.findings if not one.warning} - NOT_RECEIVED
    reason = ingest_reason(kind, payload, headers)
    assert bool(told) == bool(reason), (told, reason)
    assert not reason or reason in told, (told, reason)
    return reason


def headers(**changes: str) -> dict[str, str]:
    made = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/dms",
        "ce-type": KIND,
        "Content-Type": "application/json",
    }
    return {**made, **{name.replace("_", "-"): value for name, value in changes.items()}}


def body(**changes: Any) -> bytes:
    made = {**BASE, **changes}
    return json.dumps({key: value for key, value in made.items() if value is not ...}).encode()


BODIES = [
    ({}, ""),
    ({"content": None}, "BODY_MISSING"),
    ({"content": ...}, "BODY_MISSING"),
    ({"content": ""}, "EMPTY_DOCUMENT"),
    ({"content": "V2F0ZXI"}, ""),
    ({"content": "V2F0_XI-"}, ""),
    ({"content": "not base64!"}, "EVENT_UNDECODABLE"),
    ({"content": 5}, "EVENT_UNDECODABLE"),
    ({"content": base64.b64encode(bytes(256 * 1024)).decode()}, ""),
    ({"content": base64.b64encode(bytes(256 * 1024 + 1)).decode()}, "DOCUMENT_TOO_LARGE"),
    ({"reference": REFERENCE}, "EVENT_UNDECODABLE"),
    ({"content": ..., "reference": REFERENCE}, ""),
    ({"content": ..., "reference": {**REFERENCE, "size_bytes": 5}}, ""),
    ({"content": ..., "reference": {**REFERENCE, "sizeBytes": 5.0}}, ""),
    ({"content": ..., "reference": {**REFERENCE, "sizeBytes": 0}}, "REFERENCE_INVALID"),
    ({"content": ..., "reference": {**REFERENCE, "sizeBytes": "5 "}}, "EVENT_UNDECODABLE"),
    ({"content": ..., "reference": {**REFERENCE, "sizeBytes": True}}, "EVENT_UNDECODABLE"),
    ({"content": ..., "reference": {**REFERENCE, "sizeBytes": 1.5}}, "EVENT_UNDECODABLE"),
    ({"content": ..., "reference": {**REFERENCE, "sha256": "F" * 64}}, "REFERENCE_INVALID"),
    ({"content": ..., "reference": {**REFERENCE, "uri": "ftp://a"}}, "REFERENCE_SCHEME"),
    (
        {"content": ..., "reference": {**REFERENCE, "uri": "https://a/" + "x" * 2048}},
        "REFERENCE_INVALID",
    ),
    ({"content": ..., "reference": {}}, "REFERENCE_INVALID"),
    ({"content": ..., "reference": "https://a"}, "EVENT_UNDECODABLE"),
    ({"fileNam": "x"}, "EVENT_UNDECODABLE"),
    ({"fileName": "x", "file_name": "y"}, ""),
    ({"file_name": "x" * 255}, ""),
    ({"fileName": "x" * 256}, "METADATA_RANGE"),
    ({"fileName": 5}, "EVENT_UNDECODABLE"),
    ({"mediaType": "x" * 256}, "METADATA_RANGE"),
    ({"title": "x" * 512}, ""),
    ({"title": "x" * 513}, "METADATA_RANGE"),
    ({"title": "a\x00b"}, "METADATA_RANGE"),
    ({"title": None}, ""),
    ({"title": ["x"]}, "EVENT_UNDECODABLE"),
    ({"correlationId": "x" * 128}, ""),
    ({"correlationId": "x" * 129}, "METADATA_RANGE"),
    ({"labels": []}, ""),
    ({"labels": ["hr", "a.b_c-9", "hr"]}, ""),
    ({"labels": ["HR"]}, "LABELS_INVALID"),
    ({"labels": [""]}, "LABELS_INVALID"),
    ({"labels": ["x" * 64]}, "LABELS_INVALID"),
    ({"labels": [f"l{n}" for n in range(16)]}, ""),
    ({"labels": [f"l{n}" for n in range(17)]}, "LABELS_INVALID"),
    ({"labels": "hr"}, "EVENT_UNDECODABLE"),
    ({"metadata": {}}, ""),
    ({"metadata": None}, ""),
    ({"metadata": {"a": "b"}}, ""),
    ({"metadata": {"": "b"}}, "METADATA_RANGE"),
    ({"metadata": {"a" * 65: "b"}}, "METADATA_RANGE"),
    ({"metadata": {"a": "b" * 513}}, "METADATA_RANGE"),
    ({"metadata": {"a\x00": "b"}}, "METADATA_RANGE"),
    ({"metadata": {str(n): "b" for n in range(32)}}, ""),
    ({"metadata": {str(n): "b" for n in range(33)}}, "METADATA_RANGE"),
    ({"metadata": {str(n): "ß" * 512 for n in range(17)}}, "METADATA_RANGE"),
    ({"metadata": ["a"]}, "EVENT_UNDECODABLE"),
    ({"metadata": {"a": 5, "b": True, "c": ["x", 1.5]}}, ""),
    ({"metadata": {"a": None}}, "METADATA_RANGE"),
    ({"metadata": {"a": {"b": "c"}}}, "METADATA_RANGE"),
    ({"metadata": {"a": ["b"] * 65}}, "METADATA_RANGE"),
    ({"metadata": {"a": [["b"]]}}, "METADATA_RANGE"),
    ({"document": "reports/q3"}, "DOCUMENT_NAME"),
    ({"document": ...}, "DOCUMENT_NAME"),
    ({"document": f"{NAME}\n"}, "DOCUMENT_NAME"),
    ({"document": "collections/-/documents/a"}, "DOCUMENT_NAME"),
    ({"document": f"collections/a/documents/{'a' * 128}"}, ""),
    ({"document": f"collections/a/documents/{'a' * 129}"}, "DOCUMENT_NAME"),
    ({"tenant": "other"}, "TENANT_MISMATCH"),
    ({"tenant": ...}, "TENANT_MISMATCH"),
]


@pytest.mark.parametrize(("changes", "reason"), BODIES)
@pytest.mark.parametrize("form", ["binary", "structured"])
def test_a_body_is_refused_for_the_same_reason(form: str, changes: dict[str, Any], reason: str):
    if form == "binary":
        assert compare(body(**changes), headers()) == reason
        return
    event = {"specversion": "1.0", "id": "1", "source": "/dms", "type": KIND}
    event |= {"data": json.loads(body(**changes))}
    structured = {"Content-Type": "application/cloudevents+json"}
    assert compare(json.dumps(event).encode(), structured) == reason


HEADERS = [
    ({}, ""),
    ({"ce_id": ""}, "EVENT_HEADER_MISSING"),
    ({"ce_source": ""}, "EVENT_HEADER_MISSING"),
    ({"ce_type": ""}, "EVENT_HEADER_MISSING"),
    ({"ce_specversion": ""}, "EVENT_HEADER_MISSING"),
    ({"ce_specversion": "0.3"}, "EVENT_SPEC_VERSION"),
    ({"ce_type": "aquifer.ingest.v2.DocumentUploaded"}, "SCHEMA_UNSUPPORTED"),
    ({"ce_id": "x" * 512}, ""),
    ({"ce_id": "x" * 513}, "UPLOAD_EVENT_ID"),
    ({"ce_source": "%C3%9F" * 257}, "UPLOAD_EVENT_ID"),
    ({"ce_source": "a%00b"}, "UPLOAD_EVENT_ID"),
    ({"Content_Type": "text/plain"}, "EVENT_CONTENT_TYPE"),
    ({"Content_Type": "Application/JSON; charset=utf-8"}, ""),
    ({"Content_Type": "application/protobuf"}, "EVENT_UNDECODABLE"),
    ({"Content_Type": "application/cloudevents+json"}, "EVENT_UNDECODABLE"),
]


@pytest.mark.parametrize(("changes", "reason"), HEADERS)
def test_headers_are_refused_for_the_same_reason(changes: dict[str, str], reason: str):
    assert compare(body(), headers(**changes)) == reason


STRUCTURED = [
    (b"", "EVENT_UNDECODABLE"),
    (b"[]", "EVENT_UNDECODABLE"),
    (b"{", "EVENT_UNDECODABLE"),
    (b'{"data": {}}', "EVENT_HEADER_MISSING"),
    (b"\xef\xbb\xbf{}", "EVENT_UNDECODABLE"),
    (b"[" * 100_000, "EVENT_UNDECODABLE"),
]
ATTRIBUTES = [
    ({}, ""),
    ({"id": 5}, "EVENT_UNDECODABLE"),
    ({"id": None}, "EVENT_UNDECODABLE"),
    ({"source": "\ud800"}, "EVENT_UNDECODABLE"),
    ({"datacontenttype": "application/json"}, ""),
    ({"datacontenttype": "application/protobuf"}, "EVENT_UNDECODABLE"),
    ({"data": None}, "EVENT_UNDECODABLE"),
    ({"data": "text"}, "EVENT_UNDECODABLE"),
    ({"type": "other"}, "SCHEMA_UNSUPPORTED"),
    ({"extension": 5}, ""),
]


@pytest.mark.parametrize(("payload", "reason"), STRUCTURED)
def test_what_is_no_structured_event_is_refused_for_the_same_reason(payload: bytes, reason: str):
    assert compare(payload, {"Content-Type": "application/cloudevents+json"}) == reason


@pytest.mark.parametrize(("changes", "reason"), ATTRIBUTES)
def test_attributes_are_refused_for_the_same_reason(changes: dict[str, Any], reason: str):
    event = {"specversion": "1.0", "id": "1", "source": "/dms", "type": KIND, "data": BASE}
    payload = json.dumps({**event, **changes}).encode()
    assert compare(payload, {"Content-Type": "application/cloudevents+json"}) == reason


@pytest.mark.parametrize("payload", [b"\xff\xff", b"", b"\x0a\x04acme\xba>\x05hello"])
def test_protobuf_is_refused_for_the_same_reason(payload: bytes):
    compare(payload, headers(Content_Type="application/protobuf"))


OTHERS = [
    ({}, ""),
    ({"correlationId": "x" * 128}, ""),
    ({"correlationId": "x" * 129}, "METADATA_RANGE"),
    ({"document": "reports/q3"}, "DOCUMENT_NAME"),
    ({"document": ...}, "DOCUMENT_NAME"),
    ({"tenant": "other"}, "TENANT_MISMATCH"),
    ({"content": "V2F0ZXI="}, "EVENT_UNDECODABLE"),
    ({"document": 5}, "EVENT_UNDECODABLE"),
]
DESCRIPTIONS = [
    ({"title": "x" * 512, "metadata": {"a": [1, True]}}, ""),
    ({"title": "x" * 513}, "METADATA_RANGE"),
    ({"metadata": {"a": None}}, "METADATA_RANGE"),
    ({"metadata": ["a"]}, "EVENT_UNDECODABLE"),
]


@pytest.mark.parametrize("form", ["binary", "structured", "protobuf"])
@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        *((DocumentRemoved, *one) for one in OTHERS),
        *((DocumentDescribed, *one) for one in (*OTHERS, *DESCRIPTIONS)),
    ],
)
def test_the_other_events_are_refused_for_the_same_reason(
    kind: Kind, form: str, changes: dict[str, Any], reason: str
):
    data = {"tenant": TENANT, "document": NAME, **changes}
    data = {name: value for name, value in data.items() if value is not ...}
    full_name = kind.DESCRIPTOR.full_name
    match form:
        case "binary":
            made = compare(json.dumps(data).encode(), headers(ce_type=full_name), kind)
        case "structured":
            event = {"specversion": "1.0", "id": "1", "source": "/dms", "type": full_name}
            structured = {"Content-Type": "application/cloudevents+json"}
            made = compare(json.dumps({**event, "data": data}).encode(), structured, kind)
        case _:
            try:
                encoded = json_format.ParseDict(data, kind()).SerializeToString()
            except json_format.ParseError:
                return
            binary = headers(ce_type=full_name, Content_Type="application/protobuf")
            made = compare(encoded, binary, kind)
    assert made == reason


@pytest.mark.parametrize("kind", [DocumentRemoved, DocumentDescribed])
def test_the_type_of_an_event_is_that_of_its_subject(kind: Kind):
    payload = json.dumps({"tenant": TENANT, "document": NAME}).encode()
    assert compare(payload, headers(), kind, said=True) == "SCHEMA_UNSUPPORTED"


TEXTS = st.text(max_size=8) | st.sampled_from([NAME, TENANT, "x" * 600, "\x00", "V2F0ZXI="])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
FIELDS = [one.json_name for one in DocumentUploaded.DESCRIPTOR.fields]
INNER = [one.json_name for one in ContentReference.DESCRIPTOR.fields]


@given(
    st.dictionaries(
        st.sampled_from([*FIELDS, "file_name"]) | st.text(max_size=3), VALUES, max_size=4
    ),
    st.dictionaries(st.sampled_from(INNER), VALUES, max_size=3) | st.none(),
)
def test_any_body_is_refused_by_both_or_by_none(changes, reference):
    made = {**BASE, **changes, **({"reference": reference} if reference is not None else {})}
    compare(json.dumps(made).encode(errors="surrogatepass"), headers())


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_by_both_or_by_none(tail: bytes):
    whole = json_format.ParseDict(BASE, DocumentUploaded()).SerializeToString() + tail
    compare(whole, headers(Content_Type="application/protobuf"))


def test_the_limit_of_the_broker_is_that_of_the_contract():
    [uploads] = [one for one in topology.streams() if one.name == "UPLOADS"]
    assert uploads.max_msg_bytes == event_check.EVENT_MAX_BYTES
