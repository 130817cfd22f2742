"""Passwords of documents: what is sealed, and who can open it."""

import base64

import pytest

from chassis.base.errors import DataLossError, FailedPreconditionError
from ingest.passwords import AesPasswords

KEY = base64.b64encode(bytes(range(32))).decode()
PLACE = ("t-1", "collections/a/documents/b", 3)


@pytest.mark.parametrize("password", ["secret", "\u00fcber 8 \U0001f600", "x" * 128])
def test_a_sealed_password_is_opened_for_its_version(password):
    passwords = AesPasswords(KEY)
    passwords.check()
    sealed = passwords.seal(*PLACE, password)
    assert password.encode() not in sealed
    assert passwords.open(*PLACE, sealed) == password
    assert passwords.seal(*PLACE, password) != sealed


@pytest.mark.parametrize(
    "place",
    [
        ("t-2", "collections/a/documents/b", 3),
        ("t-1", "collections/a/documents/c", 3),
        ("t-1", "collections/a/documents/b", 4),
    ],
)
def test_it_is_opened_for_no_other_version(place):
    passwords = AesPasswords(KEY)
    with pytest.raises(DataLossError) as lost:
        passwords.open(*place, passwords.seal(*PLACE, "secret"))
    assert lost.value.reason == "PASSWORD_LOST"


@pytest.mark.parametrize("key", ["", base64.b64encode(bytes(32)).decode()])
def test_without_its_key_it_is_lost(key):
    sealed = AesPasswords(KEY).seal(*PLACE, "secret")
    with pytest.raises(DataLossError) as lost:
        AesPasswords(key).open(*PLACE, sealed)
    assert lost.value.reason == "PASSWORD_LOST"


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(12), bytes(64)])
def test_what_was_never_sealed_is_lost(sealed):
    with pytest.raises(DataLossError) as lost:
        AesPasswords(KEY).open(*PLACE, sealed)
    assert lost.value.reason == "PASSWORD_LOST"


def test_without_a_key_no_password_is_taken():
    with pytest.raises(FailedPreconditionError) as off:
        AesPasswords("").check()
    assert off.value.reason == "PASSWORDS_OFF"


@pytest.mark.parametrize("key", ["secret", "c2hvcnQ=", KEY[:-4], KEY + KEY, "\u00fc" * 44])
def test_a_key_of_another_form_is_refused(key):
    with pytest.raises(FailedPreconditionError) as refused:
        AesPasswords(key)
    assert refused.value.reason == "PASSWORD_KEY_INVALID"
