"""What the headers and the body of an event must be like to be read."""

import pytest

from aquifer.ingest.v1.document_events_pb2 import DocumentIndexed
from chassis.base.errors import InvalidInputError
from chassis.events.envelope import envelope

SUBJECT = "aquifer.ingest.v1.DocumentIndexed.acme"
HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "e1",
    "ce-type": "aquifer.ingest.v1.DocumentIndexed",
    "ce-source": "/aquifer/ingest",
}


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
    about = envelope(DocumentIndexed, SUBJECT, {**HEADERS, **headers})
    assert (about.event_id, about.source, about.tenant) == ("e1", "/aquifer/ingest", "acme")


@pytest.mark.parametrize(
    ("headers", "reason", "says"),
    [
        ({"ce-specversion": ""}, "EVENT_HEADER_MISSING", "ce-specversion"),
        ({"ce-source": ""}, "EVENT_HEADER_MISSING", "ce-source"),
        ({"ce-specversion": "0.3"}, "EVENT_SPEC_VERSION", "send ce-specversion 1.0"),
        ({"ce-specversion": "1.0.2"}, "EVENT_SPEC_VERSION", "send ce-specversion 1.0"),
        ({"ce-type": "aquifer.ingest.v2.DocumentIndexed"}, "SCHEMA_UNSUPPORTED", "v2"),
        ({"Content-Type": "application/json"}, "EVENT_CONTENT_TYPE", "send Content-Type"),
        ({"ce-datacontenttype": "application/json"}, "EVENT_CONTENT_TYPE", "send Content-Type"),
        ({"Content-Type": "application/cloudevents+json"}, "EVENT_CONTENT_TYPE", "send Content"),
    ],
)
def test_an_event_that_breaks_the_contract_is_refused_with_what_to_do(headers, reason, says):
    with pytest.raises(InvalidInputError) as refusal:
        envelope(DocumentIndexed, SUBJECT, {**HEADERS, **headers})
    assert refusal.value.reason == reason
    assert says in refusal.value.detail
