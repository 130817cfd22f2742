"""Page tokens survive the trip and nothing else passes for one."""

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth import paging
from auth.paging import KeyCursor
from chassis.errors import InvalidInputError


@given(st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True))
def test_tenant_token_names_its_tenant(tenant_id: str) -> None:
    assert paging.tenant_after(paging.tenant_token(tenant_id)) == tenant_id


@given(
    st.datetimes(timezones=st.just(timezone(timedelta(hours=2)))),
    st.from_regex(r"[0-9A-Za-z]{16}", fullmatch=True),
)
def test_key_token_names_its_key(create_time: datetime, key_id: str) -> None:
    cursor = KeyCursor(create_time=create_time, key_id=key_id)
    assert paging.key_after(paging.key_token(cursor)) == cursor


def test_no_token_is_the_first_page() -> None:
    assert paging.tenant_after("") == ""
    assert paging.key_after("") is None


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


HOSTILE = [
    "x",
    "é",
    "!!!!",
    "A" * 513,
    encoded(None),
    encoded({}),
    encoded("acme"),
    encoded([]),
    encoded([1]),
    encoded(["a", "b", "c"]),
    encoded(["a\0"]),
    encoded(["a\0", "b"]),
    encoded(["\ud800"]),
    encoded(["2026-11-20T12:00:00", "k"]),
    encoded(["yesterday", "k"]),
    encoded([["a"]]),
    base64.urlsafe_b64encode(b"[" * 300).decode(),
    base64.urlsafe_b64encode(b"\xff\xfe").decode(),
]


@pytest.mark.parametrize("token", HOSTILE)
@pytest.mark.parametrize("read", [paging.tenant_after, paging.key_after])
def test_hostile_tokens_are_refused(read: Callable[[str], object], token: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read(token)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"
    assert [violation.field for violation in refused.value.fields] == ["page_token"]


@given(st.text(min_size=1, max_size=100))
def test_any_text_is_read_or_refused(token: str) -> None:
    for read in (paging.tenant_after, paging.key_after):
        with suppress(InvalidInputError):
            read(token)


@pytest.mark.parametrize(("asked", "given"), [(0, 100), (1, 1), (1_000, 1_000)])
def test_page_sizes(asked: int, given: int) -> None:
    assert paging.page_size(asked) == given


@pytest.mark.parametrize("asked", [-1, 1_001, 2**31 - 1])
def test_other_page_sizes_are_refused(asked: int) -> None:
    with pytest.raises(InvalidInputError) as refused:
        paging.page_size(asked)
    assert refused.value.reason == "PAGE_SIZE_RANGE"
