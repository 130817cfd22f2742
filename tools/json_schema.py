"""Event messages as JSON Schema (draft 7), in protobuf's JSON mapping."""

from itertools import combinations
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tools.event_catalogue import Comments

Schema = dict[str, Any]

WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$"},
}
_F = FieldDescriptor
SCALARS: dict[int, Schema] = {
    _F.CPPTYPE_STRING: {"type": "string"},
    _F.CPPTYPE_BOOL: {"type": "boolean"},
    _F.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    _F.CPPTYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    _F.CPPTYPE_INT64: {"type": "string", "format": "int64"},
    _F.CPPTYPE_UINT64: {"type": "string", "format": "uint64"},
    _F.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    _F.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
}


def add_schema(schemas: dict[str, Schema], message: Descriptor, texts: Comments) -> None:
    """The schema of a message, and of every message in it."""
    name = message.full_name
    if name in schemas:
        return
    schema: Schema = {"title": message.name, "type": "object"}
    schemas[name] = schema
    if description := text(texts, name):
        schema["description"] = description
    schema["properties"] = {field.json_name: _field(field, texts) for field in message.fields}
    exclusive = [
        {"required": [one.json_name, other.json_name]}
        for group in message.oneofs
        for one, other in combinations(group.fields, 2)
    ]
    if exclusive:
        schema["not"] = {"anyOf": exclusive}
    for field in message.fields:
        parts = [field, *(field.message_type.fields if _is_map(field) else ())]
        for part in parts:
            inner = part.message_type
            if inner and inner.full_name not in WELL_KNOWN and not _is_map(part):
                add_schema(schemas, inner, texts)


def _field(field: FieldDescriptor, texts: Comments) -> Schema:
    if _is_map(field):
        value = _value(field.message_type.fields_by_name["value"])
        schema: Schema = {"type": "object", "additionalProperties": value}
    elif field.is_repeated:
        schema = {"type": "array", "items": _value(field)}
    else:
        schema = _value(field)
    description = text(texts, field.full_name)
    # Beside `$ref` JSON Schema draft 7 ignores every other key.
    described = {"allOf": [schema]} if "$ref" in schema and description else schema
    return {**described, "description": description} if description else described


def _value(field: FieldDescriptor) -> Schema:
    """One value of a field, in protobuf's JSON mapping."""
    if field.message_type:
        known = WELL_KNOWN.get(field.message_type.full_name)
        return dict(known) if known else reference(field.message_type)
    if field.enum_type:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "contentEncoding": "base64"}
    return dict(SCALARS[field.cpp_type])


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def reference(message: Descriptor) -> Schema:
    return {"$ref": f"#/components/schemas/{message.full_name}"}


def text(texts: Comments, name: str) -> str:
    """A comment with its line breaks removed and its paragraphs kept."""
    paragraphs = texts.get(name, "").split("\n\n")
    return "\n\n".join(" ".join(one.split()) for one in paragraphs).strip()
