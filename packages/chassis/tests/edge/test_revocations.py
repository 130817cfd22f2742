"""Revoked means refused, open calls included; not knowing means refused as well."""

import asyncio
import itertools
import time

import pytest

from aquifer.auth.v1.auth_service_pb2 import ListRevocationsResponse, Revocation
from chassis.base.errors import UnauthenticatedError, UnavailableError
from chassis.identity import revocations as module
from chassis.identity.revocations import OpenCall, Revocations, follow, poll


class Setting:
    def __init__(self) -> None:
        self.now = 1_000.0
        self.bus = True
        self.revocations = Revocations(bus_connected=lambda: self.bus, clock=lambda: self.now)

    def reason(self, key="k1", tenant="acme") -> str:
        with pytest.raises((UnauthenticatedError, UnavailableError)) as refused:
            self.revocations.check(key, tenant)
        return refused.value.reason


@pytest.fixture
def at():
    setting = Setting()
    setting.revocations.mark_polled(setting.now)
    return setting


def test_not_loaded_admits_nobody():
    setting = Setting()
    assert not setting.revocations.is_loaded
    assert setting.reason() == "REVOCATIONS_STALE"


def test_revoked_keys_and_suspended_tenants_are_refused_and_nobody_else(at):
    at.revocations.on_key_revoked("k1")
    at.revocations.on_key_revoked("k1")
    at.revocations.on_tenant_suspended("globex", 1)
    assert at.reason("k1", "acme") == "KEY_REVOKED"
    assert at.reason("k2", "globex") == "TENANT_SUSPENDED"
    at.revocations.check("k2", "acme")


def test_a_revocation_is_kept_as_long_as_any_token_could_live(at):
    at.revocations.on_key_revoked("k1")
    at.now += 900 + 30
    at.revocations.tick()
    assert at.reason() == "KEY_REVOKED"
    at.now += 100
    at.revocations.tick()
    at.revocations.check("k1", "acme")
    assert not at.revocations._keys


def test_one_way_of_hearing_is_enough(at):
    at.now += 3_600
    at.revocations.check("k1", "acme")  # the bus is connected, auth away
    at.bus = False
    for _ in range(100):
        at.now += 2
        at.revocations.mark_polled(at.now)
        at.revocations.check("k1", "acme")


def test_cut_from_both_nobody_is_admitted_within_five_seconds(at):
    at.bus = False
    at.now += 4.4
    at.revocations.check("k1", "acme")
    at.now += 0.4
    assert at.reason() == "REVOCATIONS_STALE"
    at.bus = True
    at.revocations.check("k1", "acme")


def test_open_calls_end_with_their_key_their_tenant_or_the_connection(at):
    ended = []
    calls = {
        name: OpenCall(key, tenant, lambda name=name: ended.append(name))
        for name, key, tenant in (("a", "k1", "acme"), ("b", "k2", "acme"), ("c", "k3", "globex"))
    }
    for call in calls.values():
        at.revocations.watch(call)
    at.revocations.on_key_revoked("k1")
    assert ended == ["a"]
    at.revocations.unwatch(calls["a"])
    at.revocations.on_tenant_suspended("globex", 1)
    assert ended == ["a", "c"]
    at.revocations.unwatch(calls["c"])
    at.bus = False
    at.now += 5
    at.revocations.tick()
    assert ended == ["a", "c", "b"]


SUSPENDED, RESUMED = "on_tenant_suspended", "on_tenant_resumed"


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_of_what_is_said_of_a_tenant_the_highest_sequence_holds(at, order):
    said = [(SUSPENDED, 5), (RESUMED, 6), (SUSPENDED, 8), (RESUMED, 9)]
    for number in order:
        how, sequence = said[number]
        for _ in range(2):
            getattr(at.revocations, how)("acme", sequence)
    at.revocations.check("k1", "acme")
    for number in order:
        how, sequence = said[number]
        getattr(at.revocations, how)("globex", {5: 6, 6: 5, 8: 9, 9: 8}[sequence])
    assert at.reason("k1", "globex") == "TENANT_SUSPENDED"


def test_a_late_suspension_ends_no_call_of_a_resumed_tenant(at):
    ended = []
    at.revocations.watch(OpenCall("k1", "acme", lambda: ended.append("a")))
    at.revocations.on_tenant_resumed("acme", 2)
    at.revocations.on_tenant_suspended("acme", 1)
    assert ended == []
    at.revocations.on_tenant_suspended("acme", 3)
    assert ended == ["a"]


def test_a_standing_is_kept_as_long_as_any_token_could_live(at):
    at.revocations.on_tenant_suspended("acme", 1)
    at.revocations.on_tenant_resumed("globex", 2)
    at.now += 900 + 30
    at.revocations.tick()
    at.revocations.on_tenant_suspended("globex", 1)
    assert at.reason("k1", "acme") == "TENANT_SUSPENDED"
    at.revocations.check("k1", "globex")
    at.now += 100
    at.revocations.tick()
    assert not at.revocations._tenants


def paging(entries, latest=None):
    asked = []

    async def pages(after):
        asked.append(after)
        found = [r for r in entries if r.sequence > after][: module.PAGE_MAX]
        newest = max((r.sequence for r in entries), default=0) if latest is None else latest
        return ListRevocationsResponse(revocations=found, latest_sequence=newest)

    return pages, asked


async def test_polling_takes_over_every_page(at):
    entries = [Revocation(sequence=n, key_id=f"k{n}") for n in range(1, 2_501)]
    entries.append(Revocation(sequence=2_501, tenant="globex"))
    pages, asked = paging(entries)
    assert await poll(at.revocations, pages, 0, at.now) == 2_501
    assert asked == [0, 1_000, 2_000]
    assert at.reason("k2500") == "KEY_REVOKED"
    assert at.reason("x", "globex") == "TENANT_SUSPENDED"


async def test_polling_tells_a_resumption(at):
    entries = [
        Revocation(sequence=1, tenant="acme"),
        Revocation(sequence=2, tenant="globex"),
        Revocation(sequence=3, resumed_tenant="acme"),
    ]
    pages, _ = paging(entries)
    assert await poll(at.revocations, pages, 0, at.now) == 3
    at.revocations.check("k1", "acme")
    assert at.reason("k1", "globex") == "TENANT_SUSPENDED"
    entries.append(Revocation(sequence=4, resumed_tenant="globex"))
    assert await poll(at.revocations, pages, 3, at.now) == 4
    at.revocations.check("k1", "globex")


async def test_an_old_page_takes_back_nothing_that_the_bus_has_told(at):
    at.revocations.on_tenant_resumed("acme", 2)
    pages, _ = paging([Revocation(sequence=1, tenant="acme")])
    await poll(at.revocations, pages, 0, at.now)
    at.revocations.check("k1", "acme")


async def test_an_auth_that_counts_from_an_older_state_is_read_again(at):
    at.revocations.on_tenant_suspended("globex", 49)
    at.revocations.on_tenant_resumed("acme", 50)
    pages, _ = paging([], latest=7)
    assert await poll(at.revocations, pages, 50, at.now) == 0
    # It still refuses whom it refused, and believes the new count.
    assert at.reason("k1", "globex") == "TENANT_SUSPENDED"
    pages, _ = paging([Revocation(sequence=8, tenant="acme")])
    await poll(at.revocations, pages, 0, at.now)
    assert at.reason("k1", "acme") == "TENANT_SUSPENDED"


async def test_a_slow_answer_is_as_old_as_its_question(at):
    at.bus = False
    asked_at = at.now
    at.now += 4.8
    pages, _ = paging([])
    await poll(at.revocations, pages, 0, asked_at)
    assert at.reason() == "REVOCATIONS_STALE"


async def test_following_survives_an_auth_that_fails_and_hangs(monkeypatch):
    monkeypatch.setattr(module, "POLL_EVERY_S", 0.02)
    monkeypatch.setattr(module, "POLL_TIMEOUT_S", 0.02)
    attempts = 0
    known = Revocations()

    async def pages(after):
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise UnavailableError("AUTH_UNAVAILABLE", "away")
        if attempts == 2:
            await asyncio.sleep(60)
        return ListRevocationsResponse(
            revocations=[Revocation(sequence=3, key_id="k1")], latest_sequence=3
        )

    task = asyncio.ensure_future(follow(known, pages))
    async with asyncio.timeout(20):
        while attempts <= 3:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert known.is_loaded
    with pytest.raises(UnauthenticatedError):
        known.check("k1", "acme")


@pytest.mark.parametrize(
    ("how", "code", "reason"),
    [
        (lambda known: known.on_key_revoked("k1"), "UNAUTHENTICATED", b"KEY_REVOKED"),
        (
            lambda known: known.on_tenant_suspended("acme", 1),
            "UNAUTHENTICATED",
            b"TENANT_SUSPENDED",
        ),
    ],
)
async def test_an_open_call_ends_at_once_and_later_ones_do_not_begin(
    edge, arity, how, code, reason
):
    edge.echo.does = lambda: asyncio.sleep(30)
    channel = await edge.plain()
    call = asyncio.ensure_future(
        edge.failure(edge.call(channel, arity, metadata=edge.bearer(), timeout=20))
    )
    while not edge.echo.calls:
        await asyncio.sleep(0.01)
    started = time.monotonic()
    how(edge.revocations)
    ended, rich = await call
    assert time.monotonic() - started < 10
    assert ended == code
    assert reason in rich.details[0].value
    ended, rich = await edge.failure(edge.call(channel, arity, metadata=edge.bearer()))
    assert ended == code
    edge.echo.does = None
    other = edge.bearer(key="k2", tenant="globex")
    assert await edge.call(channel, arity, metadata=other) == "a b"
    assert not edge.revocations._open


async def test_an_open_call_ends_when_nobody_can_tell_any_more(edge, arity):
    now = [1_000.0]
    bus = [True]
    known = edge.revocations
    known._clock, known._bus_connected, known._fresh_at = lambda: now[0], lambda: bus[0], 1_000.0
    edge.echo.does = lambda: asyncio.sleep(30)
    call = asyncio.ensure_future(
        edge.failure(edge.call(await edge.plain(), arity, metadata=edge.bearer(), timeout=20))
    )
    while not edge.echo.calls:
        await asyncio.sleep(0.01)
    bus[0] = False
    now[0] += 5
    known.tick()
    code, rich = await call
    assert code == "UNAVAILABLE"
    assert b"REVOCATIONS_STALE" in rich.details[0].value
