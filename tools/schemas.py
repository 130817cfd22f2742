"""Writes docs/schemas from the contract: `python -m tools.schemas`.

One JSON Schema (draft 7) for each public event in protobuf's JSON mapping, and one for an upload as
a CloudEvent in structured mode.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import Descriptor

from chassis.events import envelope, topology
from tools.event_catalogue import ROOT, Comments, comments
from tools.json_schema import Schema, add_schema, text

FOLDER = ROOT / "docs/schemas"
DRAFT = "http://json-schema.org/draft-07/schema#"
_AT, _HERE = "#/components/schemas/", "#/definitions/"


def schemas(protos: Path) -> dict[str, str]:
    """The content of each file by its name."""
    texts = comments(protos)
    public = [event for event in topology.events() if topology.options(event).public]
    made = {f"{event.full_name}.json": _schema(event, texts) for event in public}
    made |= {
        f"{event.full_name}.cloudevent.json": _cloud_event(event, texts)
        for event in public
        if topology.is_upload(event)
    }
    return {
        name: json.dumps(schema, indent=1).replace(_AT, _HERE) + "\n"
        for name, schema in made.items()
    }


def _schema(event: Descriptor, texts: Comments) -> Schema:
    """The message as JSON. An upload may have no unknown field; a result may get new ones."""
    parts: dict[str, Schema] = {}
    add_schema(parts, event, texts)
    if topology.is_upload(event):
        for schema in parts.values():
            schema["additionalProperties"] = False
    whole = parts.pop(str(event.full_name))
    return {"$schema": DRAFT, "$id": f"{event.full_name}.json", **whole, **_definitions(parts)}


def _cloud_event(event: Descriptor, texts: Comments) -> Schema:
    """The message as `data` of a CloudEvent."""
    parts: dict[str, Schema] = {}
    add_schema(parts, event, texts)
    for schema in parts.values():
        schema["additionalProperties"] = False
    attributes: Schema = {
        "specversion": {"type": "string", "const": envelope.SPEC_VERSION},
        "type": {"type": "string", "const": event.full_name},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1},
        "datacontenttype": {"type": "string", "const": envelope.JSON_TYPE},
        "data": {"$ref": f"{_AT}{event.full_name}"},
    }
    return {
        "$schema": DRAFT,
        "$id": f"{event.full_name}.cloudevent.json",
        "title": f"{event.name} in structured mode",
        "description": text(texts, event.full_name),
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": attributes,
        **_definitions(parts),
    }


def _definitions(parts: dict[str, Schema]) -> Schema:
    return {"definitions": parts} if parts else {}


def stale(protos: Path) -> Iterator[str]:
    """Names of files that are not what the contract says."""
    expected = schemas(protos)
    found = {file.name: file.read_text() for file in FOLDER.glob("*.json")}
    yield from (
        name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)
    )


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.json"):
        old.unlink()
    for name, content in schemas(ROOT / "protos").items():
        (FOLDER / name).write_text(content)
    sys.stdout.write(f"{FOLDER.relative_to(ROOT)} is up to date\n")
