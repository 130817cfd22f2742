"""Metadata as people write it, and as it is shown to them."""

import json

import pytest

from aquifer_cli.errors import CommandError
from aquifer_cli.metadata import read_pairs, show_pairs


@pytest.mark.parametrize(
    ("pair", "key", "value"),
    [
        ("author=Ada", "author", "Ada"),
        ("year=2020", "year", "2020"),
        ("year:=2020", "year", 2020),
        ("score:= 0.5", "score", 0.5),
        ("public:=true", "public", True),
        ('tags:=["a", 1, false]', "tags", ["a", 1, False]),
        ('text:="2020"', "text", "2020"),
        ("formula=a=b", "formula", "a=b"),
        ("empty=", "empty", ""),
        ("a.b`c d=x", "a.b`c d", "x"),
        ("time=12:30", "time", "12:30"),
        ("url=http://x/?a:=b", "url", "http://x/?a:=b"),
        ("most:=9007199254740992", "most", 2**53),
    ],
)
def test_a_pair_is_read_and_shown_again(pair, key, value):
    read = read_pairs([pair])
    assert json.dumps(read) == json.dumps({key: value})
    assert read_pairs(show_pairs(read)) == read


def test_of_pairs_with_one_key_the_last_counts():
    assert read_pairs(["a=1", "b=2", "a:=3"]) == {"a": 3, "b": "2"}


@pytest.mark.parametrize(
    "pair",
    [
        *("", "author", "=x", ":=1", "year:=", "year:=x", "year:=01", "a:=null", 'a:={"b": 1}'),
        *("a:=[[1]]", "a:=[null]", "a:=NaN", "a:=[Infinity]", "a:=1e400", "a:=9007199254740993"),
        "a:=" + "[" * 100_000,
        "a:=" + "9" * 5_000,
    ],
)
def test_any_other_pair_is_refused_with_the_form_it_should_have(pair):
    with pytest.raises(CommandError) as refusal:
        read_pairs([pair])
    assert (refusal.value.reason, refusal.value.exit_code) == ("METADATA_UNREADABLE", 2)
    assert "year:=2020" in refusal.value.hint
