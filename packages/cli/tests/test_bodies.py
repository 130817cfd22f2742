"""What `aquifer dead-letters show` leaves out of an event's body."""

import json
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from aquifer.ingest.v1.document_events_pb2 import Chunk, ChunksPrepared
from aquifer.ingest.v1.document_pb2 import Description
from aquifer_cli import bodies
from chassis.events.topology import events

KIND = "aquifer.ingest.v1.ChunksPrepared"
EVENT = ChunksPrepared(
    tenant="acme",
    batch=3,
    description=Description(title="Wells", metadata={"year": "1987"}),
    chunks=[Chunk(ordinal=7, text="A well.")],
)


def fields(message: Descriptor) -> Iterator[FieldDescriptor]:
    for field in message.fields:
        yield field
        # The messages of Google contain themselves, and no bytes.
        if field.message_type is not None and field.message_type.full_name.startswith("aquifer."):
            yield from fields(field.message_type)


def test_every_bytes_field_of_an_event_is_hidden():
    found = {f.name for e in events() for f in fields(e) if f.type == FieldDescriptor.TYPE_BYTES}
    assert found
    assert found <= bodies.HIDDEN


@pytest.mark.parametrize("event", events(), ids=lambda event: event.name)
def test_every_event_of_the_contract_can_be_decoded(event):
    assert bodies.decode(event.full_name, {}, b"", content=False) == {}


def test_text_is_replaced_by_its_length_unless_asked():
    payload = EVENT.SerializeToString()
    hidden = bodies.decode(KIND, {}, payload, content=False)
    assert hidden == {
        "tenant": "acme",
        "batch": 3,
        "description": {"title": "<5 characters>", "metadata": {"year": "1987"}},
        "chunks": [{"ordinal": 7, "text": "<7 characters>"}],
    }
    whole = bodies.decode(KIND, {}, payload, content=True)
    assert "A well." in json.dumps(whole)


@pytest.mark.parametrize("media_type", ["application/json", "Application/CloudEvents+JSON; v=1"])
def test_json_is_shown_as_it_came(media_type: str):
    headers = {"Content-Type": media_type}
    body = {"tenant": "acme", "content": "QQ==", "typo": [1]}
    payload = json.dumps(body).encode()
    shown = bodies.decode(KIND, headers, payload, content=False)
    assert shown == {"tenant": "acme", "content": "<4 characters>", "typo": [1]}
    assert bodies.decode(KIND, headers, payload, content=True) == body


@pytest.mark.parametrize(
    ("event_type", "headers", "payload"),
    [
        (KIND, {}, b"\xff"),
        (KIND, {"content-type": "application/json"}, b"{"),
        (KIND, {"content-type": "application/json"}, b"[" * 100_000),
        ("aquifer.ingest.v1.Unknown", {}, b""),
        ("aquifer.nowhere.v9.Unknown", {}, b""),
        ("os.path", {}, b""),
        ("", {}, b""),
    ],
)
def test_what_cannot_be_decoded_is_none(event_type: str, headers: dict[str, str], payload: bytes):
    assert bodies.decode(event_type, headers, payload, content=True) is None
