"""Every event keeps the wire form it was released with.

`AQUIFER_UPDATE_GOLDEN=1` writes the samples of new events.
"""

import json
import os
from pathlib import Path

import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from chassis.events import topology

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "AQUIFER_UPDATE_GOLDEN" in os.environ


def filled(descriptor: Descriptor, depth: int = 0) -> dict[str, object]:
    """A JSON form with every field set; of a oneof, its first."""
    chosen: dict[str, object] = {}
    seen_oneofs: set[str] = set()
    for number, field in enumerate(descriptor.fields, 1):
        if field.containing_oneof:
            if field.containing_oneof.name in seen_oneofs:
                continue
            seen_oneofs.add(field.containing_oneof.name)
        value = _value(field, number, depth)
        chosen[field.json_name] = value
    return chosen


def _value(field: FieldDescriptor, number: int, depth: int) -> object:
    if field.message_type and field.message_type.GetOptions().map_entry:
        return {"key": "value"}
    single = _single(field, number, depth)
    return [single, single] if field.is_repeated else single


def _single(field: FieldDescriptor, number: int, depth: int) -> object:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return "AAEC" if field.type == FieldDescriptor.TYPE_BYTES else f"{field.name}-{number}"
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_ENUM:
            return field.enum_type.values[-1].name
        case FieldDescriptor.CPPTYPE_MESSAGE:
            if field.message_type.full_name == "google.protobuf.Timestamp":
                return "2026-01-02T03:04:05Z"
            if field.message_type.full_name == "google.protobuf.Struct":
                return {"text": "value", "number": 2020, "truth": True, "list": ["value", 0.5]}
            return filled(field.message_type, depth + 1)
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return number + 0.5
        case _:
            return number


def message_of(event: Descriptor, body: dict[str, object]) -> Message:
    return json_format.ParseDict(body, message_factory.GetMessageClass(event)())


@pytest.mark.parametrize("event", topology.events(), ids=lambda event: event.full_name)
def test_the_wire_form_of_an_event_is_the_released_one(event):
    file = GOLDEN / f"{event.full_name}.json"
    if UPDATE:
        body = filled(event)
        wire = message_of(event, body).SerializeToString(deterministic=True).hex()
        file.write_text(json.dumps({"body": body, "wire": wire}, indent=1) + "\n")
    sample = json.loads(file.read_text())
    message = message_of(event, sample["body"])
    assert message.SerializeToString(deterministic=True).hex() == sample["wire"]
    parsed = message_factory.GetMessageClass(event).FromString(bytes.fromhex(sample["wire"]))
    assert parsed == message


@pytest.mark.parametrize("event", topology.events(), ids=lambda event: event.full_name)
def test_a_newer_event_passes_through_an_older_reader_unharmed(event):
    sample = json.loads((GOLDEN / f"{event.full_name}.json").read_text())
    unknown_field = bytes.fromhex("ba3e0568656c6c6f")  # field 999, a string
    parsed = message_factory.GetMessageClass(event).FromString(
        bytes.fromhex(sample["wire"]) + unknown_field
    )
    assert parsed.SerializeToString(deterministic=True).endswith(unknown_field)


def test_every_golden_sample_belongs_to_an_event():
    assert {file.stem for file in GOLDEN.glob("*.json")} == {
        event.full_name for event in topology.events()
    }
