"""The readers of JSON and of lines of JSON, called without their process: exact text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.notes import NoteCode
from ingest.parsing.data import read_json, read_jsonl
from ingest.parsing.data.json_lines import WHOLE_RECORD_CHARS
from ingest.parsing.data.json_values import DEPTH_MAX
from ingest.parsing.failure import ParseFailure, RefusalError

from .growth import assert_linear

LIMIT = 1 << 26


def read_text(source: str) -> str:
    return read_json.read(source.encode(), LIMIT).texts[0]


def read_records(source: str) -> list[str]:
    return read_jsonl.read(source.encode(), LIMIT).texts[0].split("\n\n")


def find_refusal(source: str, limit: int = LIMIT) -> RefusalError:
    with pytest.raises(RefusalError) as refusal:
        read_json.read(source.encode(), limit)
    return refusal.value


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # numbers, words and texts as they are written
        (
            '{"a": 1e400, "b": 12345678901234567890, "c": 0.10}',
            "a: 1e400\nb: 12345678901234567890\nc: 0.10",
        ),
        ('{"a": -0, "b": -0.0, "c": 1E+2, "d": NaN}', "a: -0\nb: -0.0\nc: 1E+2\nd: NaN"),
        ('{"a": true, "b": false, "c": null, "d": ""}', "a: true\nb: false\nc: null\nd: "),
        (r'{"a": "\u00e9t\u00e9 \ud83d\ude00 \"q\" \/ \\"}', 'a: été 😀 "q" / \\'),
        (r'{"a": "one\ntwo\n\n  three"}', "a: one\ntwo\n  three"),
        ('{"a": "one\ntwo"}', "a: one\ntwo"),
        # keys
        ('{"a": {"b": {"c": 1}, "d": 2}}', "a.b.c: 1\na.d: 2"),
        ('{"a": 1, "a": 2}', "a: 1\na: 2"),
        ('{"": 1, "two  words\\n": 2}', '"": 1\ntwo words: 2'),
        ("{}", "{}"),
        ('{"a": {}, "b": []}', "a: {}\nb: []"),
        # arrays
        ('{"tags": ["a", 1, null]}', "tags: a, 1, null"),
        ('{"tags": ["a, b", "c"]}', "tags[0]: a, b\ntags[1]: c"),
        ('{"at": [[52.10, 13], [48, 11]]}', "at: [52.10, 13], [48, 11]"),
        ('["a", 2]', "a\n2"),
        ('[["pump", "kW"], ["north", 4.25]]', "pump, kW\nnorth, 4.25"),
        ('[{"a": 1, "b": 2}, {"a": 3}]', "a: 1\nb: 2\n\na: 3"),
        (
            '{"v": 1, "rows": [{"a": 1}, {"a": 2}], "end": 3}',
            "v: 1\n\nrows.a: 1\n\nrows.a: 2\n\nend: 3",
        ),
        (
            '[{"a": 1, "parts": [{"b": 2}, {"b": 3, "c": 4}]}]',
            "a: 1\nparts[0].b: 2\nparts[1].b: 3\nparts[1].c: 4",
        ),
        # one value, or several
        ('"only text"', "only text"),
        ("1.50", "1.50"),
        ('{"a": 1}\n{"a": 2} {"a": 3}', "a: 1\n\na: 2\n\na: 3"),
        ('\x1e{"a": 1}\n\x1e{"a": 2}\n', "a: 1\n\na: 2"),
        # settings with comments
        ('{ // the pump\n"a": 1}', '{ // the pump\n"a": 1}'),
        ('{"a": 1 /* kW */}', '{"a": 1 /* kW */}'),
    ],
)
def test_values_become_lines(source, expected):
    assert read_text(source) == expected


def test_title_of_an_object_is_the_title():
    assert read_json.read(b'{"id": 1, "title": "Weir"}', LIMIT).title == "Weir"
    assert read_json.read(b'[{"title": "Weir"}]', LIMIT).title == ""


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("plain words", "line 1, column 1"),
        ('{"a": 1,\n "b": }', "line 2, column 7"),
        ('{"a": 1', "line 1, column 8"),
        ("{'a': 1}", "line 1, column 2"),
        ('{"a": 1} trailing', "line 1, column 10"),
        ('{"a": 01}', "line 1, column 8"),
    ],
)
def test_text_that_is_no_json_is_refused_with_its_place(source, place):
    refusal = find_refusal(source)
    assert refusal.failure is ParseFailure.DOCUMENT_DAMAGED
    assert place in refusal.detail
    assert "text/plain" in refusal.detail


@pytest.mark.parametrize("begin", ["[", '{"a":', '[{"a":'])
@pytest.mark.parametrize("depth", [2 * DEPTH_MAX, 5_000, 100_000])
def test_deep_nesting_is_refused(begin, depth):
    closers = "".join({"[": "]", "{": "}"}.get(sign, "") for sign in reversed(begin))
    refusal = find_refusal(begin * depth + "1" + closers * depth)
    assert refusal.failure is ParseFailure.DOCUMENT_DAMAGED
    assert "nested" in refusal.detail
    with pytest.raises(RefusalError, match="nested"):
        read_jsonl.read(("{}\n" + begin * depth + "1" + closers * depth).encode(), LIMIT)


def test_nesting_up_to_the_limit_is_read():
    deep = '{"a":' * DEPTH_MAX + "1" + "}" * DEPTH_MAX
    assert read_text(deep) == "a." * (DEPTH_MAX - 1) + "a: 1"


def test_text_past_the_limit_is_refused():
    long_key = '{"%s": [{"x": 1}, 2]}' % ("k" * 500)
    assert find_refusal(long_key, 1_000).failure is ParseFailure.PARSER_OUTPUT_LIMIT


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{"a": 1}\r\n\r\n{"a": 2}', ["a: 1", "a: 2"]),
        ('{"a": [{"b": 1}, {"b": 2}]}\n[1, 2]\n"x"\n', ["a[0].b: 1\na[1].b: 2", "1, 2", "x"]),
        ('{"a": "one\\n\\ntwo", "b": 1}\n{}\n', ["a: one\ntwo\nb: 1", "{}"]),
        ('{\n"a": 1}\n{"a": 2}\n', ["a: 1", "a: 2"]),
        # lines that are no JSON
        ('{"a": 1}\nERROR: stopped\n{"a": 3', ["a: 1", "ERROR: stopped", '{"a": 3']),
        ("no\njson\n", ["no", "json"]),
    ],
)
def test_lines_become_records(source, expected):
    assert read_records(source) == expected


def test_broken_lines_are_noted():
    [note] = read_jsonl.read(b'{"a": 1}\nx\n{"a"\n', LIMIT).notes
    assert note.code is NoteCode.LINES_KEPT_AS_TEXT
    assert note.detail.startswith("2 lines ")


def test_long_text_in_a_record_keeps_its_paragraphs():
    text = "word " * (WHOLE_RECORD_CHARS // 10) + "\n\n" + "more " * (WHOLE_RECORD_CHARS // 10)
    assert len(read_records(json.dumps({"a": text}))) == 2


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4)
    ),
)


def list_words(value: object) -> list[str]:
    """All keys and values, as JSON writes them."""
    if isinstance(value, dict):
        return [word for key, one in value.items() for word in (key, *list_words(one))]
    if isinstance(value, list):
        return [word for one in value for word in list_words(one)]
    return [value if isinstance(value, str) else json.dumps(value)]


@given(VALUES)
def test_no_key_or_value_is_lost(value):
    text = " ".join(read_text(json.dumps(value)).split())
    for word in list_words(value):
        assert " ".join(word.split()) in text


@pytest.mark.parametrize(
    "make",
    [
        lambda size: b"[" + b"0," * (size // 2) + b"0]",
        lambda size: b"[" + b"{}," * (size // 3) + b"{}]",
        lambda size: b'{"a":[' + b"[[1]]," * (size // 6) + b'{"b":1}]}',
        lambda size: b'"' + b"\\n" * (size // 2) + b'"',
        lambda size: b"1 " * (size // 2),
    ],
    ids=["numbers", "objects", "arrays", "one text", "values"],
)
def test_work_grows_as_the_document(make):
    assert_linear(lambda data: read_json.read(data, LIMIT), make, 1 << 20)


def test_work_grows_as_the_lines():
    assert_linear(
        lambda data: read_jsonl.read(data, LIMIT),
        lambda size: b'{"a":1}\n{x\n' * (size // 11),
        1 << 20,
    )
