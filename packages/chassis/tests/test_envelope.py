"""What the headers and the body of an event must be like to be read."""

import json

import pytest
from google.protobuf import json_format

from aquifer.ingest.v1.document_events_pb2 import DocumentIndexed
from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from chassis.base.errors import InvalidInputError
from chassis.events.envelope import Glimpse, peek, read

NAME = "collections/a/documents/b"
INDEXED = DocumentIndexed(tenant="acme", document=NAME)
UPLOADED = DocumentUploaded(
    tenant="acme", document=NAME, content=b"Water\xff", metadata={"k": "v"}, correlation_id="c"
)
BODY = json_format.MessageToDict(UPLOADED)
ATTRIBUTES = {
    "specversion": "1.0",
    "id": "e1",
    "type": "aquifer.ingest.v1.DocumentUploaded",
    "source": "/dms",
}
JSON = {"Content-Type": "application/json"}
STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=UTF-8"}


def read_indexed(**headers):
    known = {
        "ce-specversion": "1.0",
        "ce-id": "e1",
        "ce-type": "aquifer.ingest.v1.DocumentIndexed",
        "ce-source": "/aquifer/ingest",
    }
    subject = "aquifer.ingest.v1.DocumentIndexed.acme"
    return read(DocumentIndexed, subject, known | headers, INDEXED.SerializeToString())


def read_uploaded(headers, payload):
    return read(DocumentUploaded, "aquifer.ingest.v1.DocumentUploaded.acme", headers, payload)


def read_json(payload, **attributes):
    headers = {f"ce-{name}": value for name, value in (ATTRIBUTES | attributes).items()}
    return read_uploaded(headers | JSON, payload)


def read_structured(**changes):
    event = {**ATTRIBUTES, "data": BODY, **changes}
    payload = json.dumps({name: value for name, value in event.items() if value is not None})
    return read_uploaded(STRUCTURED, payload.encode())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/protobuf"},
        {"content-type": "Application/Protobuf; charset=binary"},
        {"ce-datacontenttype": "application/protobuf"},
    ],
)
def test_an_event_says_that_it_is_protobuf_or_nothing(headers):
    about, event = read_indexed(**headers)
    assert (about.event_id, about.source, about.tenant) == ("e1", "/aquifer/ingest", "acme")
    assert event == INDEXED


@pytest.mark.parametrize(
    ("headers", "reason", "says"),
    [
        ({"ce-specversion": ""}, "EVENT_HEADER_MISSING", "ce-specversion"),
        ({"ce-source": ""}, "EVENT_HEADER_MISSING", "ce-source"),
        ({"ce-specversion": "0.3"}, "EVENT_SPEC_VERSION", "send specversion 1.0"),
        ({"ce-specversion": "1.0.2"}, "EVENT_SPEC_VERSION", "send specversion 1.0"),
        ({"ce-type": "aquifer.ingest.v2.DocumentIndexed"}, "SCHEMA_UNSUPPORTED", "v2"),
        ({"Content-Type": "text/plain"}, "EVENT_CONTENT_TYPE", "application/protobuf,"),
        ({"Content-Type": "application/json"}, "EVENT_CONTENT_TYPE", "application/protobuf,"),
        ({"ce-datacontenttype": "application/json"}, "EVENT_CONTENT_TYPE", "not application/json"),
        (STRUCTURED, "EVENT_CONTENT_TYPE", "not application/cloudevents+json"),
    ],
)
def test_an_event_that_breaks_the_contract_is_refused_with_what_to_do(headers, reason, says):
    with pytest.raises(InvalidInputError) as refusal:
        read_indexed(**headers)
    assert refusal.value.reason == reason
    assert says in refusal.value.detail


def test_an_upload_event_may_be_json_in_binary_mode():
    about, event = read_json(json.dumps(BODY).encode())
    assert (about.event_id, about.source, about.tenant) == ("e1", "/dms", "acme")
    assert event == UPLOADED


@pytest.mark.parametrize("changes", [{}, {"datacontenttype": "application/json", "dms": 7}])
def test_an_upload_event_may_be_json_in_structured_mode(changes):
    about, event = read_structured(**changes)
    assert (about.event_id, about.source, about.tenant) == ("e1", "/dms", "acme")
    assert event == UPLOADED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"specversion": None}, "EVENT_HEADER_MISSING"),
        ({"id": ""}, "EVENT_HEADER_MISSING"),
        ({"specversion": "0.3"}, "EVENT_SPEC_VERSION"),
        ({"type": "aquifer.ingest.v2.DocumentUploaded"}, "SCHEMA_UNSUPPORTED"),
        ({"data": None}, "EVENT_UNDECODABLE"),
        ({"data": [BODY]}, "EVENT_UNDECODABLE"),
        ({"data": {**BODY, "file-name": "typing error"}}, "EVENT_UNDECODABLE"),
        ({"data": {**BODY, "content": "no base64!"}}, "EVENT_UNDECODABLE"),
        ({"data": {**BODY, "content": "V2F0Z"}}, "EVENT_UNDECODABLE"),
        ({"data": {**BODY, "title": "\ud800"}}, "EVENT_UNDECODABLE"),
        ({"datacontenttype": "application/xml"}, "EVENT_UNDECODABLE"),
        ({"id": 7}, "EVENT_UNDECODABLE"),
        ({"source": "\ud800"}, "EVENT_UNDECODABLE"),
        ({"data": {**BODY, "tenant": "globex"}}, "TENANT_MISMATCH"),
        ({"data": {"document": NAME}}, "TENANT_MISMATCH"),
    ],
)
def test_a_structured_event_that_breaks_the_contract_is_refused(changes, reason):
    with pytest.raises(InvalidInputError) as refusal:
        read_structured(**changes)
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "EVENT_UNDECODABLE"),
        (b"{", "EVENT_UNDECODABLE"),
        (b"null", "EVENT_UNDECODABLE"),
        (b"[" * 100_000, "EVENT_UNDECODABLE"),
        (b'{"tenant": ' + b'{"a": ' * 10_000 + b"1" + b"}" * 10_001, "EVENT_UNDECODABLE"),
        (b'{"title": "\xff"}', "EVENT_UNDECODABLE"),
        (UPLOADED.SerializeToString(), "EVENT_UNDECODABLE"),
        (b'{"tenant": "globex"}', "TENANT_MISMATCH"),
    ],
)
@pytest.mark.parametrize("headers", [JSON, STRUCTURED], ids=["binary", "structured"])
def test_a_json_body_that_can_not_be_read_is_refused(payload, reason, headers):
    binary = {f"ce-{name}": value for name, value in ATTRIBUTES.items()} | headers
    if headers is STRUCTURED and reason == "TENANT_MISMATCH":
        payload = json.dumps({**ATTRIBUTES, "data": json.loads(payload)}).encode()
    with pytest.raises(InvalidInputError) as refusal:
        read_uploaded(binary, payload)
    assert refusal.value.reason == reason


def test_id_and_document_are_found_in_what_could_not_be_read():
    wrong = {**BODY, "file-name": "typing error"}
    structured = json.dumps({**ATTRIBUTES, "specversion": "0.3", "data": wrong}).encode()
    for headers, payload in (
        ({"ce-id": "e1"}, UPLOADED.SerializeToString()),
        ({"ce-id": "e1", "Content-Type": "text/plain"}, UPLOADED.SerializeToString()),
        ({"ce-id": "e1", **JSON}, json.dumps(wrong).encode()),
        (STRUCTURED, structured),
    ):
        seen = peek(DocumentUploaded, headers, payload)
        assert (seen.event_id, seen.document, seen.correlation_id) == ("e1", NAME, "c")
    for payload in (b"\xff", b"{", b"[]", b'{"document": 7}'):
        assert peek(DocumentUploaded, {"ce-id": "e1", **JSON}, payload) == Glimpse(event_id="e1")


def test_what_is_found_in_an_unreadable_event_can_be_sent_on():
    """A lone surrogate is JSON, but no text that protobuf or PostgreSQL can hold."""
    structured = b'{"id": "e1\\ud800", "source": ["/s"], "data": {"document": "d\\udfff"}}'
    seen = peek(DocumentUploaded, STRUCTURED, structured)
    assert seen == Glimpse(event_id="e1", document="d")


def test_a_structured_event_without_data_keeps_its_identity():
    seen = peek(DocumentUploaded, STRUCTURED, b'{"id": "e1", "source": "/s"}')
    assert seen == Glimpse(event_id="e1", source="/s")
