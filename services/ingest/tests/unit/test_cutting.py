"""Small text and JSON are cut on the spot, and come out as if they had taken the long way."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chassis.base.errors import InvalidInputError
from ingest.chunking import ChunkSettings
from ingest.cutting import (
    SMALL_JSON_BYTES,
    SMALL_JSON_VALUES,
    SMALL_TEXT_BYTES,
    Cut,
    cut_small_text,
    prepare_small_text,
)
from ingest.domain import Object, Origin, State, Version
from ingest.parsing.detect import detect
from ingest.parsing.failure import ParseFailure
from ingest.parsing.jail import child
from ingest.parsing.jail.reply import Reply
from ingest.parsing.jail.task import Task
from ingest.pieces import Prepared

SETTINGS = ChunkSettings(target_chars=40, max_chars=60)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def version(media_type="", file_name=""):
    return Version(
        tenant="acme",
        document="collections/c/documents/d",
        number=7,
        state=State.ACCEPTED,
        given_title="",
        file_name=file_name,
        media_type_hint=media_type,
        metadata={},
        stored=Object(key="k", size_bytes=1, sha256="0" * 64),
        origin=Origin(),
        trace_id="",
        step_due_at=None,
        accepted_at=NOW,
        updated_at=NOW,
    )


def parse_in_child(data, of):
    """What a child answers and its parent believes; None for what they refuse."""
    task = Task(charset="", target_chars=40, max_chars=60, cpu_s=60)
    try:
        found = detect(data, media_type=of.media_type_hint, file_name=of.file_name)
        reply = Reply(found, SETTINGS)
        frames = child.build_reply(found, task, data, 1 << 20)
        [document] = filter(None, [reply.add(frame[4:]) for frame in frames])
    except InvalidInputError as refused:
        if refused.reason == ParseFailure.PARSER_CRASHED:
            raise
        return None
    cut = Cut(
        title=document.title,
        media_type=document.media_type,
        notes=document.notes,
        chunks=document.chunks,
        settings=SETTINGS,
    )
    return cut.prepare(of.tenant, of.document, of.number)


TEXTS = st.text(
    st.sampled_from(
        " \n\t\r\f\v\x85\u2028\u00a0\u00ad\u200b.!?,a\u00e9e\u0301Zz\u6f22\U0001f600\x00\x1b\x07"
    )
    | st.characters(codec="utf-8"),
    max_size=400,
)


@given(TEXTS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32-le"]))
@example("e" + "\u0301" * 80, "utf-8")
@example("\u1100\u1161\u11a8 " * 40, "utf-16")
@example("one.\f\ftwo\r\n\r\n\r\nthree", "utf-8")
def test_small_text_has_the_pieces_of_the_long_way(text, encoding):
    data = text.encode(encoding)
    small = prepare_small_text(version("text/plain"), data, SETTINGS)
    assert small == parse_in_child(data, version("text/plain")) or (
        # What has to be guessed is left to the long way.
        small is None and encoding not in {"utf-8", "utf-8-sig"}
    )


@given(st.binary(max_size=300))
def test_bytes_that_need_no_guess_have_the_pieces_of_the_long_way(data):
    small = prepare_small_text(version(), data, SETTINGS)
    assert small is None or small == parse_in_child(data, version())


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
)


@given(VALUES.map(json.dumps), st.sampled_from(["a.json", "a.jsonl"]))
@example('{"a": 1} // no', "a.json")
@example('{"a": 1}\nbroken', "a.jsonl")
@example('{"a": 1', "a.json")
@example("[" * 2_000, "a.json")
@example("[" * 9_999 + "]" * 9_999, "a.jsonl")
def test_small_json_has_the_pieces_of_the_long_way(text, file_name):
    data = text.encode()
    small = prepare_small_text(version(file_name=file_name), data, SETTINGS)
    long = parse_in_child(data, version(file_name=file_name))
    assert small == long or (small is None and data.count(b"[") > SMALL_JSON_VALUES)


def test_small_json_is_cut_on_the_spot():
    small = prepare_small_text(version(file_name="a.json"), b'{"a": {"b": 1.0}}', SETTINGS)
    assert [piece.text for piece in small.pieces] == ["a.b: 1.0"]


def test_json_that_repeats_long_paths_is_left_to_the_long_way():
    deep = '{"%s": ' * 150 % tuple(["k" * 90] * 150) + json.dumps(dict.fromkeys("abcdefghijklm", 1))
    data = (deep + "}" * 150).encode()
    assert prepare_small_text(version(file_name="a.json"), data, SETTINGS) is None
    assert parse_in_child(data, version(file_name="a.json")) is not None


def test_the_pieces_belong_to_the_version():
    small = prepare_small_text(
        version(file_name="notes.txt"), b"Water finds its way. " * 9, SETTINGS
    )
    assert isinstance(small, Prepared)
    cut = cut_small_text(
        b"Water finds its way. " * 9, media_type="", file_name="notes.txt", settings=SETTINGS
    )
    other = cut.prepare("acme", "collections/c/documents/d", 8)
    assert [piece.text for piece in other.pieces] == [piece.text for piece in small.pieces]
    assert not {piece.chunk_id for piece in other.pieces} & {p.chunk_id for p in small.pieces}


@pytest.mark.parametrize(
    ("data", "media_type", "file_name"),
    [
        (b"", "", ""),
        (b"a" * (SMALL_TEXT_BYTES + 1), "", ""),
        (b"# Title", "text/markdown", ""),
        (b"# Title", "", "README.md"),
        (b"<!doctype html><p>x", "", ""),
        (b"%PDF-1.7", "", ""),
        (b"text", "application/zip", ""),
        (b'{"a": ', "", "a.json"),
        (b"a,b", "", "a.csv"),
        (b"1" * (SMALL_JSON_BYTES + 1), "", "a.json"),
        (b"   \n", "", ""),
        (bytes(range(1, 20)) * 9, "", ""),
        ("Широкая электрификация южных губерний".encode("cp1251"), "", ""),
        ("東京は日本の首都です。".encode("iso2022_jp"), "", ""),
    ],
)
def test_everything_else_is_left_to_the_long_way(data, media_type, file_name):
    assert prepare_small_text(version(media_type, file_name), data, SETTINGS) is None
