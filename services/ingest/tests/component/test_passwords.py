"""The password of a document: used once, stored sealed, and gone when its version is parsed."""

import logging
from io import BytesIO

import pypdf
import pytest
from pydantic import SecretStr

from chassis.base.errors import FailedPreconditionError, InvalidInputError
from services.ingest.tests.component.test_versions import keep, roll_back
from services.ingest.tests.conftest import Rig, open_rig
from testkit.pdf import lines, pdf

SECRET = "Sesam-4711"
TEXT = "The valve of well P-17 is closed."


def lock(password: str = SECRET, text: str = TEXT) -> bytes:
    writer = pypdf.PdfWriter(clone_from=BytesIO(pdf(lines(text.encode()))))
    writer.encrypt(password, algorithm="AES-256")
    packed = BytesIO()
    writer.write(packed)
    return packed.getvalue()


def stored(rig: Rig) -> list[bytes | None]:
    rows = rig.rows.execute("SELECT password FROM versions ORDER BY version").fetchall()
    return [row["password"] for row in rows]


async def test_a_locked_pdf_is_read_with_its_password_which_is_then_forgotten(rig: Rig, caplog):
    caplog.set_level(logging.DEBUG)
    view = await rig.upload(lock(), password=SECRET)
    assert SECRET not in repr(view)
    (sealed,) = stored(rig)
    assert sealed
    assert SECRET.encode() not in sealed
    events = rig.rows.execute("SELECT payload FROM outbox").fetchall()
    assert all(SECRET.encode() not in event["payload"] for event in events)
    await rig.prepare()
    assert rig.state() == "PREPARED"
    assert stored(rig) == [None]
    text = rig.rows.execute("SELECT text FROM chunks").fetchall()
    assert [row["text"] for row in text] == [TEXT]
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("password", "reason"), [("", "DOCUMENT_ENCRYPTED"), ("Sesam", "PASSWORD_WRONG")]
)
async def test_a_refusal_says_which_and_forgets_the_password(rig: Rig, password, reason):
    await rig.upload(lock(), password=password)
    await rig.prepare()
    assert rig.version()["reason"] == reason
    assert stored(rig) == [None]
    await rig.upload(lock(), password=SECRET)
    await rig.prepare(version=2)
    assert rig.state(2) == "PREPARED"


async def test_a_password_that_comes_while_the_version_is_parsed_makes_a_new_one(rig: Rig):
    content = lock()
    await rig.upload(content)
    view = await rig.upload(content, password=SECRET, request_id="r1")
    assert view.version.number == 2
    assert (await rig.upload(content, password=SECRET, request_id="r1")).version.number == 2
    await rig.prepare(version=2)
    assert rig.state(2) == "PREPARED"
    # It is parsed, so the password is no longer needed.
    view = await rig.upload(content, password=SECRET)
    assert (view.version.number, stored(rig)) == (2, [None, None])


async def test_a_kept_version_is_read_again_with_the_password_of_its_roll_back(rig: Rig):
    await keep(rig, 1)
    await rig.upload(lock(), password=SECRET)
    await rig.prepare()
    await rig.searchable()
    await rig.index_version(b"another text")
    for number, password, reason in (
        (3, "", "DOCUMENT_ENCRYPTED"),
        (4, "Sesam", "PASSWORD_WRONG"),
        (5, SECRET, ""),
    ):
        for _ in range(2):
            view = await roll_back(rig, 1, request_id=f"r{number}", password=password)
            assert (view.version.number, SECRET in repr(view)) == (number, False)
        assert (stored(rig)[number - 1] is not None) == (password != "")
        await rig.prepare(number)
        assert rig.version(number)["reason"] == reason
    assert (rig.state(5), stored(rig)) == ("PREPARED", [None] * 5)
    text = rig.rows.execute("SELECT text FROM chunks WHERE version = 5").fetchall()
    assert [row["text"] for row in text] == [TEXT]
    with pytest.raises(InvalidInputError) as refused:
        await roll_back(rig, 2, password="x" * 129)
    assert [one.field for one in refused.value.fields] == ["password"]


async def test_a_delete_removes_the_password(rig: Rig):
    await rig.upload(lock(), password=SECRET)
    await rig.delete()
    assert stored(rig) == [None]


async def test_a_later_version_that_is_live_removes_it(rig: Rig):
    await rig.upload(lock(), password=SECRET)
    await rig.index_version(b"another text")
    assert rig.state(1) == "SUPERSEDED"
    assert stored(rig) == [None, None]


async def test_small_text_needs_none(rig: Rig):
    await rig.upload(b"plain text", password=SECRET)
    await rig.prepare()
    assert rig.state() == "PREPARED"


async def test_it_has_a_bound(rig: Rig):
    for password in ("x" * 129, "a\x00b"):
        with pytest.raises(InvalidInputError) as refused:
            await rig.upload(lock(), password=password)
        assert [one.field for one in refused.value.fields] == ["password"]
        assert password not in str(refused.value)


async def test_without_a_key_an_upload_with_a_password_is_refused(database, everything, tmp_path):
    async with open_rig(database, everything, tmp_path, password_key=SecretStr("")) as rig:
        with pytest.raises(FailedPreconditionError) as off:
            await rig.upload(lock(), password=SECRET)
        assert off.value.reason == "PASSWORDS_OFF"
        assert rig.count("versions") == 0
        await rig.index_version(b"first")
        await rig.upload(b"second")
        with pytest.raises(FailedPreconditionError) as off:
            await roll_back(rig, 1, password=SECRET)
        assert off.value.reason == "PASSWORDS_OFF"


async def test_a_changed_key_fails_the_version_with_its_reason(database, everything, tmp_path):
    content = lock()
    async with open_rig(database, everything, tmp_path) as rig:
        await rig.upload(content, password=SECRET)
        rig.rows.execute("UPDATE versions SET password = '\\x00' || password")
        await rig.prepare()
        assert rig.version()["reason"] == "PASSWORD_LOST"
