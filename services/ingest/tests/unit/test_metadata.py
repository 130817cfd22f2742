"""Metadata: which values it may have, and when two of it are the same."""

import math

import pytest

from aquifer.structs import to_struct
from chassis.base.errors import InvalidInputError
from ingest.metadata import MAX_BYTES, check_metadata, is_same

FULL = {f"{n:064}": "v" * 437 for n in range(31)} | {"k" * 64: "v" * 436}


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"author": "Ada", "year": 2020, "score": -0.5, "public": True, "tags": ["a", 1, False]},
        {"published": "2024-05-01T00:00:00Z", "empty": "", "none of it": []},
        {"text": "v" * 512, "list": ["v" * 512] * 20},
        {"list": list(range(64))},
        {f"{n:064}": "v" for n in range(32)},
    ],
)
def test_texts_numbers_booleans_and_lists_of_them_are_accepted(metadata):
    check_metadata(metadata)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("v" * 513, "up to 512 characters"),
        ("\x00", "without NUL"),
        (["v", "\x00"], "without NUL"),
        (math.nan, "finite"),
        (-math.inf, "finite"),
        ([1, math.inf], "finite"),
        (None, "true or false"),
        ([None], "a list of at most 64 of these"),
        ({}, "a string"),
        ({"a": 1}, "a string"),
        ([[1]], "a list of at most 64 of these"),
        ([{"a": 1}], "a list of at most 64 of these"),
        ([1] * 65, "a list of at most 64 of these"),
    ],
)
def test_any_other_value_is_refused_and_its_key_is_named(value, said):
    with pytest.raises(InvalidInputError) as refusal:
        check_metadata({"good": 1, "bad": value})
    assert refusal.value.reason == "METADATA_RANGE"
    [violation] = refusal.value.fields
    assert violation.field == "metadata.bad"
    assert said in violation.description


def test_every_bad_value_is_named():
    with pytest.raises(InvalidInputError) as refusal:
        check_metadata({"a": None, "b": 1, "c": [[]], "": 1})
    assert [one.field for one in refusal.value.fields] == ["metadata.a", "metadata.c", "metadata"]


def test_all_of_it_together_is_bounded_as_it_travels():
    room = MAX_BYTES - to_struct(FULL).ByteSize()
    assert 0 <= room < 32
    check_metadata(FULL)
    for more in ({"k" * 64: "v" * (437 + room)}, {"one more": 1}):
        with pytest.raises(InvalidInputError) as refusal:
            check_metadata(FULL | more)
        assert [one.field for one in refusal.value.fields] == ["metadata"]
    # Few characters, but many values: the message counts.
    check_metadata({f"{n}": [1.5] * 64 for n in range(22)})
    with pytest.raises(InvalidInputError):
        check_metadata({f"{n}": [1.5] * 64 for n in range(23)})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (2020, "2020", False),
        (1, True, False),
        (0, False, False),
        ([1], [True], False),
        (["a", "b"], ["b", "a"], False),
        ("a", ["a"], False),
        ([], "", False),
        (2020, 2020.0, True),
        (1e300, 10**300, True),
        (["a"], ["a"], True),
    ],
)
def test_values_of_another_type_are_other_values(one, other, same):
    assert is_same({"k": one}, {"k": other}) is same
    assert is_same({"k": one, "a": "b"}, {"a": "b", "k": other}) is same


def test_another_pair_is_a_change():
    assert not is_same({"k": 1}, {})
    assert not is_same({"k": ""}, {})
    assert is_same({}, {})
