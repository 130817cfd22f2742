"""What CheckDocuments says is what an upload then does."""

import hashlib
from collections.abc import Mapping, Sequence

import pytest

from chassis.base.errors import InvalidInputError, UnavailableError
from ingest.checks import Check, Checked, CheckResult
from ingest.domain import State
from services.ingest.tests.conftest import NAME, TENANT, Rig

WATER = b"Water finds its way."
OTHER = b"Something else."
TWIN = "collections/reports/documents/q1"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def check(content: bytes = WATER, name: str = NAME, media_type: str = "") -> Check:
    return Check(name=name, sha256=digest(content), media_type=media_type, metadata={})


def described(title: str = "", metadata: Mapping[str, str] | None = None) -> Check:
    return Check(
        name=NAME, sha256=digest(WATER), described=True, title=title, metadata=metadata or {}
    )


async def run(rig: Rig, *checks: Check, tenant: str = TENANT) -> Sequence[Checked]:
    return await rig.wired.rpc.check.run(tenant, checks)


async def result(rig: Rig, one: Check, *, tenant: str = TENANT) -> CheckResult:
    [checked] = await run(rig, one, tenant=tenant)
    return checked.result


async def upload(rig: Rig, content: bytes = WATER, **header: str) -> bool:
    """Uploads; whether that made a version."""
    before = rig.count("versions")
    await rig.upload(content, **header)
    return rig.count("versions") > before


async def test_an_unknown_document_is_new(rig: Rig):
    [checked] = await run(rig, check())
    assert (checked.result, checked.newest) == (CheckResult.NEW, None)


@pytest.mark.parametrize("steps", range(3))
async def test_bytes_that_are_on_their_way_or_indexed_are_unchanged(rig: Rig, steps: int):
    await rig.upload(WATER)
    for step in (rig.prepare, rig.searchable)[:steps]:
        await step()
    [same, other] = await run(rig, check(), check(OTHER))
    assert (same.result, other.result) == (CheckResult.UNCHANGED, CheckResult.CHANGED)
    assert same.newest is not None
    assert same.newest.number == 1
    assert same.newest.state is [State.ACCEPTED, State.PREPARED, State.INDEXED][steps]
    assert not await upload(rig)
    assert await upload(rig, OTHER)


async def test_the_bytes_of_a_failed_version_are_uploaded_again(rig: Rig):
    await rig.upload(WATER)
    await rig.prepare()
    await rig.reject()
    assert await result(rig, check()) is CheckResult.CHANGED
    assert await upload(rig)
    assert await result(rig, check()) is CheckResult.UNCHANGED


async def test_the_bytes_of_a_superseded_version_are_a_change(rig: Rig):
    await rig.index_version(WATER)
    await rig.index_version(OTHER)
    assert rig.state(1) == "SUPERSEDED"
    assert await result(rig, check()) is CheckResult.CHANGED
    assert await result(rig, check(OTHER)) is CheckResult.UNCHANGED
    assert await upload(rig)


async def test_the_bytes_of_an_older_live_version_are_a_change(rig: Rig):
    await rig.index_version(WATER)
    await rig.upload(OTHER)
    assert rig.state(1) == "INDEXED"
    assert await result(rig, check()) is CheckResult.CHANGED


async def test_a_deleted_document_is_new_at_once(rig: Rig):
    await rig.index_version()
    rig.siblings.query_is_away = True
    with pytest.raises(UnavailableError):
        await rig.delete()
    assert await result(rig, check()) is CheckResult.NEW
    rig.siblings.query_is_away = False
    await rig.delete()
    await rig.report_purged()
    assert rig.state() == "DELETED"
    assert await result(rig, check()) is CheckResult.NEW
    assert await upload(rig)
    assert await result(rig, check()) is CheckResult.UNCHANGED


async def test_another_media_type_is_a_change(rig: Rig):
    await rig.upload(WATER, media_type="text/plain")
    assert await result(rig, check(media_type="TEXT/plain")) is CheckResult.UNCHANGED
    assert await result(rig, check()) is CheckResult.UNCHANGED
    assert await result(rig, check(media_type="text/markdown")) is CheckResult.CHANGED
    assert await upload(rig, media_type="text/markdown")


async def test_title_and_metadata_count_if_they_are_sent(rig: Rig):
    await rig.upload(WATER, title="Water", metadata={"year": "1987"})
    assert await result(rig, check()) is CheckResult.UNCHANGED
    for one, expected in (
        (described("Water", {"year": "1987"}), CheckResult.UNCHANGED),
        (described("Rain", {"year": "1987"}), CheckResult.CHANGED),
        (described("Water", {"year": "1988"}), CheckResult.CHANGED),
        (described("Water"), CheckResult.CHANGED),
        (described(), CheckResult.CHANGED),
    ):
        assert await result(rig, one) is expected
    await rig.upload(WATER)
    assert await result(rig, described()) is CheckResult.UNCHANGED


async def test_the_first_other_document_with_the_same_bytes_is_named(rig: Rig):
    for name in (TWIN, f"{TWIN}-b", "collections/minutes/documents/a"):
        await rig.upload(WATER, name=name)
    [new, twin, other] = await run(rig, check(), check(name=TWIN), check(OTHER))
    assert (new.result, new.duplicate_of) == (CheckResult.NEW, TWIN)
    assert (twin.result, twin.duplicate_of) == (CheckResult.UNCHANGED, f"{TWIN}-b")
    assert other.duplicate_of == ""
    [elsewhere] = await run(rig, check(name="collections/minutes/documents/b"))
    assert elsewhere.duplicate_of == "collections/minutes/documents/a"
    [nowhere] = await run(rig, check(name="collections/reports-2/documents/b"))
    assert nowhere.duplicate_of == ""


async def test_only_bytes_that_searches_find_or_will_find_are_duplicates(rig: Rig):
    await rig.upload(WATER, name=TWIN)
    await rig.prepare(name=TWIN)
    await rig.reject(name=TWIN)
    assert [one.duplicate_of for one in await run(rig, check())] == [""]
    await rig.index_version(WATER, name=TWIN)
    assert [one.duplicate_of for one in await run(rig, check())] == [TWIN]
    await rig.upload(OTHER, name=TWIN)
    assert [one.duplicate_of for one in await run(rig, check())] == [""]
    await rig.index_version(WATER, name=f"{TWIN}-b")
    await rig.delete(f"{TWIN}-b")
    assert [one.duplicate_of for one in await run(rig, check())] == [""]


async def test_nothing_of_another_tenant_is_told(rig: Rig):
    await rig.upload(WATER)
    [checked] = await run(rig, check(), tenant="globex")
    assert (checked.result, checked.newest, checked.duplicate_of) == (CheckResult.NEW, None, "")
    [checked] = await run(rig, check(name=TWIN), tenant="globex")
    assert checked.duplicate_of == ""


async def test_answers_come_in_the_order_of_the_checks(rig: Rig):
    names = [f"collections/c/documents/{number:03}" for number in range(1_000)]
    for name in names[::100]:
        await rig.upload(WATER, name=name)
    found = await run(rig, *(check(name=name) for name in reversed(names)))
    assert [one.check.name for one in found] == names[::-1]
    known = [one.check.name for one in found if one.result is CheckResult.UNCHANGED]
    assert known == names[::100][::-1]
    twice = await run(rig, check(name=names[0]), check(OTHER, name=names[0]))
    assert [one.result for one in twice] == [CheckResult.UNCHANGED, CheckResult.CHANGED]


async def test_a_check_writes_nothing(rig: Rig):
    await rig.upload(WATER)
    before = [rig.rows.execute(f"SELECT * FROM {t}").fetchall() for t in ("documents", "versions")]
    await run(rig, check(), check(name=TWIN))
    assert before == [
        rig.rows.execute(f"SELECT * FROM {t}").fetchall() for t in ("documents", "versions")
    ]


@pytest.mark.parametrize(
    ("checks", "reason", "field"),
    [
        ([], "CHECK_COUNT", "documents"),
        ([check()] * 1_001, "CHECK_COUNT", "documents"),
        ([check(), check(name="reports/q3")], "DOCUMENT_NAME", "documents[1].document"),
        ([Check(name=NAME, sha256="", metadata={})], "SHA256_INVALID", "documents[0].sha256"),
        (
            [Check(name=NAME, sha256="A" * 64, metadata={})],
            "SHA256_INVALID",
            "documents[0].sha256",
        ),
    ],
)
async def test_a_bad_check_is_refused_by_its_field(rig: Rig, checks, reason, field):
    with pytest.raises(InvalidInputError) as refused:
        await run(rig, *checks)
    assert refused.value.reason == reason
    assert [violation.field for violation in refused.value.fields] == [field]
