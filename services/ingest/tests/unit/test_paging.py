"""A token leads on from where it was made, under the same filter, and nothing else does."""

import base64
import json

import pytest

from chassis.errors import InvalidInputError
from ingest.paging import name_after, page_size, token_after

NAME = "collections/a/documents/b"


def test_a_token_leads_on_from_its_document():
    token = token_after(NAME, "a", "FAILED")
    assert name_after(token, "a", "FAILED") == NAME
    assert name_after("", "a", "FAILED") == ""


@pytest.mark.parametrize(("collection", "state"), [("b", "FAILED"), ("a", ""), ("", "FAILED")])
def test_a_token_of_another_filter_is_refused(collection: str, state: str):
    with pytest.raises(InvalidInputError) as refusal:
        name_after(token_after(NAME, "a", "FAILED"), collection, state)
    assert refusal.value.reason == "PAGE_TOKEN"


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    [
        "!",
        "ü",
        "YQ",
        "a" * 2_000,
        encoded(["x"]),
        encoded([1, "", ""]),
        encoded({"a": 1}),
        encoded(["ü", "", ""]),
        encoded("[" * 300),
    ],
)
def test_a_made_up_token_is_refused(token: str):
    with pytest.raises(InvalidInputError) as refusal:
        name_after(token, "", "")
    assert refusal.value.reason == "PAGE_TOKEN"


def test_a_page_size_has_bounds_and_a_default():
    assert [page_size(asked) for asked in (0, 1, 1_000)] == [100, 1, 1_000]
    for asked in (-1, 1_001):
        with pytest.raises(InvalidInputError) as refusal:
            page_size(asked)
        assert refusal.value.reason == "PAGE_SIZE"
