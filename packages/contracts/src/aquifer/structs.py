"""Values of `google.protobuf.Struct` as values of Python, which JSON columns store."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from google.protobuf.struct_pb2 import Struct, Value

JsonValue: TypeAlias = "str | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
JsonObject: TypeAlias = Mapping[str, JsonValue]

# A double has every integer up to this one; beyond it neighbours are missing.
INTEGER_MAX: Final = 2**53


def to_json(struct: Struct) -> dict[str, JsonValue]:
    """The pairs of a struct; a number without a fraction is an int up to `INTEGER_MAX`."""
    return {key: _to_json(value) for key, value in struct.fields.items()}


def to_struct(pairs: JsonObject) -> Struct:
    """The struct of these pairs; the opposite of `to_json`."""
    struct = Struct()
    struct.update(pairs)
    return struct


def to_value(value: JsonValue) -> Value:
    """A single value of a struct."""
    return to_struct({"value": value}).fields["value"]


def _to_json(value: Value) -> JsonValue:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            exact = number.is_integer() and abs(number) <= INTEGER_MAX
            return int(number) if exact else number
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_to_json(one) for one in value.list_value.values]
        case "struct_value":
            return to_json(value.struct_value)
        case _:
            return None
