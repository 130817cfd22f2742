"""Metadata keeps its values on every way: as a message, as JSON in a column, and back."""

import json

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st

from aquifer.structs import INTEGER_MAX, to_json, to_struct

scalars = st.one_of(
    st.text(max_size=20),
    st.booleans(),
    st.integers(-INTEGER_MAX, INTEGER_MAX),
    st.floats(allow_nan=False, allow_infinity=False),
)
objects = st.dictionaries(st.text(max_size=10), st.one_of(scalars, st.lists(scalars, max_size=5)))


def typed(value):
    """A value of which 1, 1.0 and True differ only if their JSON does."""
    return json.dumps(value, sort_keys=True)


@given(pairs=objects)
@settings(deadline=None, derandomize=True)
def test_values_come_back_as_they_were(pairs):
    wire = Struct.FromString(to_struct(pairs).SerializeToString())
    back = to_json(wire)
    assert back == pairs
    assert typed(to_json(to_struct(json.loads(json.dumps(back))))) == typed(back)


@pytest.mark.parametrize(
    "value", [2020, -1, 0, INTEGER_MAX, True, False, "2020", "", 0.5, ["a"], [1, True, "1"], []]
)
def test_a_value_keeps_its_type(value):
    assert typed(to_json(to_struct({"k": value}))) == typed({"k": value})


def test_an_integer_that_a_double_cannot_tell_from_its_neighbour_is_no_integer():
    assert typed(to_json(to_struct({"k": float(INTEGER_MAX * 4)}))) == typed(
        {"k": float(INTEGER_MAX * 4)}
    )


def test_what_people_write_as_json_is_read():
    written = {"author": "Ada", "year": 2020, "tags": ["a", "b"], "public": True, "score": 0.5}
    struct = json_format.ParseDict(written, Struct())
    assert typed(to_json(struct)) == typed(written)


def test_what_metadata_cannot_have_is_still_told_apart():
    written = {"none": None, "object": {"a": [None, {"b": 1}]}, "lists": [[1]]}
    assert to_json(json_format.ParseDict(written, Struct())) == written
