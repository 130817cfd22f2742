"""What can not be made wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from auth.domain import (
    INTERNAL,
    SCOPES,
    Actor,
    ApiKey,
    Tenant,
    check_request_id,
    choose_expiry,
    grant,
    sort_scopes,
)
from chassis.base.errors import ForbiddenError, InvalidInputError

NOW = datetime(2026, 11, 20, 12, 0, 0, 999_999, tzinfo=UTC)
TENANT = Tenant(tenant_id="acme", display_name="Acme", create_time=NOW)
KEY = ApiKey(
    key_id="k" * 16,
    tenant_id="acme",
    principal="key:k",
    display_name="a key",
    scopes=("ask", "search"),
    create_time=NOW,
    expire_time=NOW + timedelta(days=1),
)


@pytest.mark.parametrize("tenant_id", ["a", "-", "0", "a" * 63, "a-b-0"])
def test_tenant_ids_are_subject_tokens(tenant_id: str) -> None:
    assert replace(TENANT, tenant_id=tenant_id).tenant_id == tenant_id


@pytest.mark.parametrize(
    "tenant_id", ["", "A", "a" * 64, "a.b", "a*", "a>", "a b", "ä", "a\n", "a_b", "\0"]
)
def test_other_tenant_ids_are_refused(tenant_id: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        replace(TENANT, tenant_id=tenant_id)
    assert refused.value.reason == "TENANT_INVALID"
    assert [violation.field for violation in refused.value.fields] == ["tenant"]


@pytest.mark.parametrize("name", ["x", "名" * 128, "Société\u3000Générale", "a b"])
def test_display_names_are_for_people(name: str) -> None:
    assert replace(TENANT, display_name=name).display_name == name
    assert replace(KEY, display_name=name).display_name == name


@pytest.mark.parametrize("name", ["", " ", "\u3000", "a" * 129, "a\0", "a\nb", "\x1b[31m", "\x85"])
def test_unreadable_display_names_are_refused(name: str) -> None:
    for thing in (TENANT, KEY):
        with pytest.raises(InvalidInputError) as refused:
            replace(thing, display_name=name)
        assert refused.value.reason == "DISPLAY_NAME_INVALID"


def test_key_needs_known_scopes() -> None:
    with pytest.raises(InvalidInputError) as none:
        replace(KEY, scopes=())
    with pytest.raises(InvalidInputError) as unknown:
        replace(KEY, scopes=("ask", "everything"))
    assert none.value.reason == "SCOPES_EMPTY"
    assert unknown.value.reason == "SCOPE_UNKNOWN"
    assert "everything" not in str(unknown.value)


@pytest.mark.parametrize(("days", "means"), [(0, 90), (1, 1), (365, 365)])
def test_keys_end(days: int, means: int) -> None:
    assert choose_expiry(NOW, days) == NOW + timedelta(days=means)


@pytest.mark.parametrize("days", [-1, 366, 2**31 - 1, -(2**31)])
def test_keys_end_within_a_year(days: int) -> None:
    with pytest.raises(InvalidInputError) as refused:
        choose_expiry(NOW, days)
    assert refused.value.reason == "EXPIRY_RANGE"


@pytest.mark.parametrize("request_id", ["x" * 129, "a\0"])
def test_odd_request_ids_are_refused(request_id: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check_request_id(request_id)
    assert refused.value.reason == "REQUEST_ID_INVALID"
    check_request_id("")
    check_request_id("x" * 128)


def test_nobody_hands_on_more_than_he_holds_and_internal_never() -> None:
    actor = Actor(
        tenant_id="acme", principal="p", key_id="k", scopes=frozenset({"ask", "keys.admin"})
    )
    actor.check_may_grant(["ask"])
    with pytest.raises(ForbiddenError) as more:
        actor.check_may_grant(["ask", "search"])
    assert more.value.reason == "SCOPE_EXCEEDED"
    assert more.value.facts == {"scopes": "search"}
    almighty = replace(actor, scopes=frozenset(SCOPES))
    with pytest.raises(ForbiddenError):
        almighty.check_may_grant([INTERNAL])


def test_scopes_are_kept_once_and_in_order() -> None:
    assert sort_scopes(["search", "ask", "search"]) == ("ask", "search")


def test_grant_lasts_ten_minutes_in_whole_seconds() -> None:
    issued = grant(KEY, now=NOW, token_id="t")
    assert issued.issue_time == NOW.replace(microsecond=0)
    assert issued.expire_time == (NOW + timedelta(minutes=10)).replace(microsecond=0)


def test_grant_never_outlives_its_key() -> None:
    ending = replace(KEY, expire_time=NOW + timedelta(seconds=90))
    issued = grant(ending, now=NOW, token_id="t")
    assert issued.expire_time <= ending.expire_time
    assert issued.expire_time == ending.expire_time.replace(microsecond=0)
