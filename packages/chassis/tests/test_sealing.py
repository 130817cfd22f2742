"""Secrets that are stored: who has no key, or another place, gets nothing."""

import base64

import pytest

from chassis.base.sealing import Sealer

KEY = base64.b64encode(bytes(range(32))).decode()
SECRET = "p\u00e4ss \U0001f511"


def test_a_secret_opens_for_its_place_alone():
    sealer = Sealer(KEY)
    sealed = sealer.seal(SECRET, "acme", "a.pdf", "1")
    assert Sealer(KEY).open(sealed, "acme", "a.pdf", "1") == SECRET
    assert SECRET.encode() not in sealed
    assert sealer.seal(SECRET, "acme", "a.pdf", "1") != sealed
    for place in (("acme", "a.pdf", "2"), ("acme", "a.pdf1"), ()):
        with pytest.raises(ValueError, match="another key, or for another place"):
            sealer.open(sealed, *place)


def test_what_was_sealed_by_another_key_or_changed_does_not_open():
    sealed = Sealer(KEY).seal(SECRET, "here")
    other = Sealer(base64.b64encode(bytes(32)).decode())
    for sealer, given in (
        (other, sealed),
        (Sealer(KEY), sealed[:-1] + bytes([sealed[-1] ^ 1])),
        (Sealer(KEY), sealed[:20]),
        (Sealer(KEY), sealed[:5]),
        (Sealer(KEY), b""),
    ):
        with pytest.raises(ValueError, match="another key"):
            sealer.open(given, "here")


@pytest.mark.parametrize("key", ["", "x", KEY[:-4], KEY + "AAAA", "\u00e4" * 44, "!" * 44])
def test_a_key_must_be_32_bytes(key):
    with pytest.raises(ValueError, match="32 bytes in base64"):
        Sealer(key)
