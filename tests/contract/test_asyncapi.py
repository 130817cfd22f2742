"""docs/asyncapi.yaml agrees with the contract, and its schemas accept the events' JSON form."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor

from chassis.events import topology
from tests.contract.reasons import ROOT
from tools import asyncapi

PROTOS = ROOT / "protos"
GOLDEN = Path(__file__).parent / "golden"
KINDS = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}


@pytest.fixture(scope="module")
def page() -> str:
    return asyncapi.render(PROTOS)


@pytest.fixture(scope="module")
def document(page) -> dict[str, Any]:
    return yaml.safe_load(page)


def resolve(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """A node, or what its `$ref` points at."""
    while "$ref" in node:
        found: Any = document
        for key in node["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        node = found
    return node


def violations(document: dict[str, Any], schema: dict[str, Any], value: Any, at: str) -> list[str]:
    """Where a JSON value does not fit a schema, for the keywords the generator writes."""
    schema = resolve(document, schema)
    if "allOf" in schema:
        return [one for part in schema["allOf"] for one in violations(document, part, value, at)]
    match schema["type"]:
        case "object" if isinstance(value, dict):
            known, other = schema.get("properties", {}), schema.get("additionalProperties")
            found = []
            for key, inner in value.items():
                if (part := known.get(key, other)) is None:
                    found.append(f"{at}.{key}: not in the schema")
                elif part is not True:
                    found += violations(document, part, inner, f"{at}.{key}")
            excluded = schema.get("not", {}).get("anyOf", [])
            return found + [f"{at}: {one}" for one in excluded if set(one["required"]) <= {*value}]
        case "array" if isinstance(value, list):
            return [
                one for inner in value for one in violations(document, schema["items"], inner, at)
            ]
        case kind if kind in KINDS and isinstance(value, KINDS[kind]):
            return [f"{at}: {value}"] if value not in schema.get("enum", [value]) else []
    return [f"{at}: {value!r} is no {schema['type']}"]


def test_the_document_is_up_to_date(page):
    assert asyncapi.PAGE.read_text() == page, "run `just events`"


def test_a_changed_comment_makes_the_document_stale(page, tmp_path):
    protos = shutil.copytree(PROTOS, tmp_path / "protos")
    file = protos / "aquifer/ingest/v1/upload_events.proto"
    text = file.read_text()
    file.write_text(text.replace("// Content of a document by reference.", "// Planted."))
    assert asyncapi.render(protos) != page


def test_every_reference_has_a_target(document):
    nodes, references = [document], []
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict) and isinstance(node.get("$ref"), str):
            references.append(node)
        nodes += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    assert len(references) > 100
    assert all(resolve(document, node) for node in references)


@pytest.mark.parametrize("event", topology.events(), ids=lambda event: event.full_name)
def test_an_event_has_its_channel_and_operations(document, event):
    options, channel = topology.options(event), document["channels"][event.name]
    assert channel["address"].replace("{tenant}", "*") == topology.subject(event, "*")
    tag = "public" if options.public else "internal"
    found = [
        (key, operation.get("x-jetstream-durable"))
        for key, operation in document["operations"].items()
        if operation["channel"]["$ref"] == f"#/channels/{event.name}"
        and {"name": tag} in operation["tags"]
        and {"name": tag} in channel["tags"]
    ]
    upload = topology.stream_name(event) == "UPLOADS"
    sender = "upstream" if upload else topology.publisher(event)
    expected = [(f"{sender}-send-{event.name}", None)]
    expected += [
        (f"{durable.service}-receive-{event.name}", durable.name)
        for durable in topology.durables()
        if durable.subject == topology.subject(event, "*")
    ]
    if options.broadcast:
        expected.append((f"every-process-receive-{event.name}", None))
    if options.public and not upload:
        expected.append((f"upstream-receive-{event.name}", None))
    assert found == expected


def read_sample(event: Descriptor) -> dict[str, Any]:
    wire = json.loads((GOLDEN / f"{event.full_name}.json").read_text())["wire"]
    message = message_factory.GetMessageClass(event).FromString(bytes.fromhex(wire))
    return json_format.MessageToDict(message)


@pytest.mark.parametrize("event", topology.events(), ids=lambda event: event.full_name)
def test_the_schema_of_an_event_fits_its_json_form(document, event):
    payload = document["components"]["messages"][event.name]["payload"]
    sample = read_sample(event)
    assert violations(document, payload, sample, event.name) == []
    assert set(resolve(document, payload)["properties"]) >= set(sample)


def test_a_schema_refuses_what_is_not_the_json_form(document):
    payload = document["components"]["messages"]["DocumentUploaded"]["payload"]
    reference = {"uri": "file:///a", "sizeBytes": 5}
    wrong = {"fileName": 1, "planted": "x", "content": "AAEC", "reference": reference}
    found = violations(document, payload, wrong, "event")
    assert [line.partition(":")[0] for line in found] == [
        "event.fileName",
        "event.planted",
        "event.reference.sizeBytes",
        "event",
    ]
