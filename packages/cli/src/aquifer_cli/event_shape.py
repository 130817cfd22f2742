"""Why a JSON body is not an event of its kind: unknown fields, wrong types, with their places."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final, TypeVar, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from aquifer_cli.event_rules import Finding

UNDECODABLE: Final = "EVENT_UNDECODABLE"
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_INTEGER = re.compile(r"-?[0-9]+")
_INTEGERS = {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}


E = TypeVar("E", bound=Message)


def parse(kind: type[E], data: object) -> E | list[Finding]:
    """The event of a JSON body in protobuf's JSON mapping, or why there is none."""
    descriptor = cast(Descriptor, kind.DESCRIPTOR)
    if not isinstance(data, dict):
        return [Finding("", UNDECODABLE, f"an object, not {_kind(data)}")]
    found = [*_check_object(descriptor, data, "")]
    if any(one.detail == _NO_BASE64 for one in found):
        return found
    try:
        return json_format.ParseDict(data, kind())
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        return found or [Finding("", UNDECODABLE, str(error))]


_NO_BASE64: Final = "base64 text"


def _check_object(descriptor: Descriptor, data: Mapping[str, Any], at: str) -> Iterator[Finding]:
    known = {field.json_name: field for field in descriptor.fields}
    known |= {field.name: field for field in descriptor.fields}
    given: dict[str, str] = {}
    for key, value in data.items():
        if (field := known.get(key)) is None:
            yield Finding(f"{at}{key}", UNDECODABLE, _suggest(key, descriptor))
            continue
        if value is not None:
            yield from _check_field(field, value, f"{at}{key}")
            group = field.containing_oneof.name if field.containing_oneof else field.json_name
            if other := given.get(group):
                detail = f"exclude each other: {other} and {key}"
                yield Finding(f"{at}{key}", UNDECODABLE, detail)
            given[group] = key


def _suggest(key: str, descriptor: Descriptor) -> str:
    names = [field.json_name for field in descriptor.fields]
    lowered = {name.lower(): name for name in names}
    near = get_close_matches(key.lower().replace("_", ""), lowered, n=1, cutoff=0.6)
    if near:
        return f"unknown field; did you mean {lowered[near[0]]}?"
    return f"unknown field; known are {', '.join(names)}"


def _check_field(field: FieldDescriptor, value: Any, at: str) -> Iterator[Finding]:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        if not isinstance(value, dict):
            yield Finding(at, UNDECODABLE, f"an object, not {_kind(value)}")
            return
        for key, one in value.items():
            yield from _check_field(inner.fields_by_name["value"], one, f"{at}.{key}")
    elif inner is not None and inner.file.package.startswith("aquifer."):
        if isinstance(value, dict):
            yield from _check_object(inner, value, f"{at}.")
        else:
            yield Finding(at, UNDECODABLE, f"an object, not {_kind(value)}")
    elif (expected := _expect(field, value)) is not None:
        detail = expected if expected == _NO_BASE64 else f"{expected}, not {_kind(value)}"
        yield Finding(at, UNDECODABLE, detail)


def _expect(field: FieldDescriptor, value: Any) -> str | None:
    """What a scalar field must have, if it does not have that."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        if not isinstance(value, str):
            return "base64 text"
        return None if _BASE64.fullmatch(value) else _NO_BASE64
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return None if isinstance(value, str) else "text"
    if field.cpp_type in _INTEGERS:
        digits = isinstance(value, str) and _INTEGER.fullmatch(value)
        whole = isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0
        return None if digits or whole else "a whole number"
    return None


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
