"""docs/schemas says of the public events what the contract says, and what ingest accepts."""

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor

from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from aquifer_cli import event_check
from chassis.events import topology
from tests.contract.reasons import ROOT
from tests.contract.test_asyncapi import read_sample
from tools import schemas

PROTOS = ROOT / "protos"
PUBLIC = [event for event in topology.events() if topology.options(event).public]
EXAMPLES = sorted((ROOT / "examples/events").glob("*.json"))
UPLOAD = DocumentUploaded.DESCRIPTOR.full_name


def read(name: str) -> dict[str, Any]:
    schema = json.loads((schemas.FOLDER / name).read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    return schema


def violations(name: str, value: object) -> list[str]:
    return [one.json_path for one in jsonschema.Draft7Validator(read(name)).iter_errors(value)]


def test_the_schemas_are_up_to_date():
    assert list(schemas.stale(PROTOS)) == [], "run `just events`"


def test_a_changed_comment_makes_a_schema_stale(tmp_path):
    protos = shutil.copytree(PROTOS, tmp_path / "protos")
    file = protos / "aquifer/ingest/v1/upload_events.proto"
    file.write_text(file.read_text().replace("// Content of a document by reference.", "// New."))
    assert list(schemas.stale(protos)) == [f"{UPLOAD}.cloudevent.json", f"{UPLOAD}.json"]


@pytest.mark.parametrize("event", PUBLIC, ids=lambda event: event.full_name)
def test_the_golden_sample_of_an_event_fits_its_schema(event: Descriptor):
    assert violations(f"{event.full_name}.json", read_sample(event)) == []


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"fileNam": "x"}, "$"),
        ({"fileName": 1}, "$.fileName"),
        ({"reference": {"uri": "https://a", "planted": 1}}, "$.reference"),
        ({"reference": {"uri": "https://a"}, "content": "AAEC"}, "$"),
    ],
)
def test_a_schema_refuses_what_ingest_refuses(changes: dict[str, Any], at: str):
    value = {"tenant": "acme", "document": "collections/a/documents/b", **changes}
    assert at in violations(f"{UPLOAD}.json", value)
    assert not event_check.check(json.dumps(value).encode(), {}, "").is_valid


def test_a_newer_result_still_fits_the_schema():
    sample = read_sample(PUBLIC[0])
    assert violations(f"{PUBLIC[0].full_name}.json", {**sample, "fieldOfTomorrow": 1}) == []


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_valid_for_schema_and_command(file: Path):
    value = json.loads(file.read_text())
    said = value.get("type", UPLOAD)
    name = f"{said}.cloudevent.json" if "data" in value else f"{said}.json"
    assert violations(name, value) == []
    report = event_check.check(file.read_bytes(), {}, "default")
    assert report.findings == []
    kind = topology.event_class(said)
    assert kind is not None
    json_format.ParseDict(value.get("data", value), kind())


def test_a_structured_upload_needs_its_attributes():
    value = json.loads((ROOT / "examples/events/upload.cloudevent.json").read_text())
    for name in ("specversion", "id", "source", "type", "data"):
        assert violations(
            f"{UPLOAD}.cloudevent.json", {k: v for k, v in value.items() if k != name}
        )
