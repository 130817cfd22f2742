"""Texts in windows of so many bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engines.windows import split, to_ids, to_text, window_bytes


@given(st.text(max_size=300), st.integers(4, 64))
def test_parts_are_the_text_and_none_is_too_long(text, max_bytes):
    parts = list(split(text, max_bytes))
    assert "".join(parts) == text
    assert all(len(part.encode()) <= max_bytes for part in parts)
    assert all(parts) or not text


def test_a_cut_is_at_white_space_where_there_is_some():
    assert list(split("The well is deep. The pump is old.", 20)) == [
        "The well is deep. ",
        "The pump is old.",
    ]
    assert list(split("a bcdefghijklmnop", 8)) == ["a bcdefg", "hijklmno", "p"]


@given(st.text(min_size=1))
def test_characters_are_found_again(text):
    ids = to_ids(text)
    assert len(ids) == len(text)
    assert to_text(ids) == text


@pytest.mark.parametrize(("is_refused", "wanted"), [(False, 510), (True, 2_040)])
def test_a_window_has_as_many_bytes_as_no_server_cuts(is_refused, wanted):
    assert window_bytes(512, is_refused=is_refused) == wanted
