"""A token leads on from where it was made, under the same filter, and nothing else does."""

import base64
import json
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.base import paging
from chassis.base.errors import InvalidInputError
from chassis.base.paging import Page, parse, parse_size

PRINTABLE = st.text(max_size=60).filter(str.isprintable)


def next_token(*position: str, bound: tuple[str, ...] = ()) -> str:
    """Token of the page after a row at this position."""
    _, token = Page(size=1, after=(), bound=bound).cut([position, position], lambda row: row)
    return token


def refusal(token: str, *, parts: int = 1, bound: tuple[str, ...] = ()) -> str:
    with pytest.raises(InvalidInputError) as refused:
        parse(0, token, parts=parts, bound=bound)
    assert [violation.field for violation in refused.value.fields] == ["page_token"]
    return refused.value.reason


@given(st.lists(PRINTABLE, min_size=1, max_size=3), st.lists(PRINTABLE, max_size=2))
def test_a_token_leads_on_from_its_row(position: Sequence[str], bound: Sequence[str]) -> None:
    token = next_token(*position, bound=tuple(bound))
    if len(token) <= paging.TOKEN_MAX_CHARS:
        page = parse(0, token, parts=len(position), bound=tuple(bound))
        assert page.after == tuple(position)


def test_every_row_is_shown_once() -> None:
    rows = [f"{number:02}" for number in range(7)]
    found: list[str] = []
    token, pages = "", 0
    while token or not pages:
        page = parse(3, token)
        fetched = [row for row in rows if row > page.after_name][: page.limit]
        shown, token = page.cut(fetched, lambda row: (row,))
        found += shown
        pages += 1
    assert (found, pages) == (rows, 3)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_last_page_has_no_next_one_even_when_it_is_full(rows: int) -> None:
    shown, token = parse(3, "").cut(list(range(rows)), lambda row: (str(row),))
    assert (len(shown), token) == (rows, "")


@pytest.mark.parametrize("bound", [(), ("b", "FAILED"), ("a", ""), ("a",), ("a", "FAILED", "")])
def test_a_token_of_another_filter_is_refused(bound: tuple[str, ...]) -> None:
    token = next_token("row", bound=("a", "FAILED"))
    assert parse(0, token, bound=("a", "FAILED")).after == ("row",)
    assert refusal(token, bound=bound) == "PAGE_TOKEN_INVALID"


def encode(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


HOSTILE = [
    "x",
    "é",
    "!!!!",
    "YQ",
    "A" * 1_025,
    encode(None),
    encode({}),
    encode({"a": 1}),
    encode("acme"),
    encode([]),
    encode([1]),
    encode(["a", "b", "c"]),
    encode(["a\0"]),
    encode(["a\n", "b"]),
    encode(["\ud800"]),
    encode([["a"]]),
    base64.urlsafe_b64encode(b"[" * 300).decode(),
    base64.urlsafe_b64encode(b"\xff\xfe").decode(),
]


@pytest.mark.parametrize("token", HOSTILE)
@pytest.mark.parametrize("parts", [1, 2])
def test_a_made_up_token_is_refused(token: str, parts: int) -> None:
    assert refusal(token, parts=parts) == "PAGE_TOKEN_INVALID"


@given(st.text(min_size=1, max_size=100))
def test_any_text_is_read_or_refused(token: str) -> None:
    with suppress(InvalidInputError):
        parse(0, token)


def test_a_page_size_has_bounds_and_a_default() -> None:
    assert [parse_size(size) for size in (0, 1, 1_000)] == [100, 1, 1_000]
    assert parse_size(0, default=1_000) == 1_000
    assert parse(7, "").limit == 8


@pytest.mark.parametrize("size", [-1, 1_001, 2**31 - 1, -(2**31)])
def test_other_page_sizes_are_refused(size: int) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse(size, "")
    assert refused.value.reason == "PAGE_SIZE_RANGE"
    assert [violation.field for violation in refused.value.fields] == ["page_size"]
    assert refused.value.facts == {"max_size": "1000", "default_size": "100"}
