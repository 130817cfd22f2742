"""The text of a key gives nothing away and proves exactly itself."""

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.keys import KeyText, Peppers, Proof, is_key_id, new_key
from chassis.base.errors import FailedPreconditionError

PEPPER = "p" * 32
OTHER = "q" * 32
KNOWN = KeyText("0123456789abcdef", "A" * 43)


def test_text_has_the_published_form_and_checksum() -> None:
    # CRC-32 of all before the last underscore is 0x901c9a6f: 2dcoZj with the digits 0-9A-Za-z.
    assert KNOWN.reveal() == f"aqf_0123456789abcdef_{'A' * 43}_2dcoZj"


def test_revealed_key_is_read_back() -> None:
    key = new_key()
    assert KeyText.parse(key.reveal()) == key
    assert is_key_id(key.key_id)


def test_new_keys_use_every_digit_equally_and_never_repeat() -> None:
    keys = [new_key() for _ in range(2_000)]
    assert len({key.key_id for key in keys}) == len({key.secret for key in keys}) == len(keys)
    digits = Counter("".join(key.secret for key in keys))
    assert len(digits) == 62
    expected = 2_000 * 43 / 62
    chi_squared = sum((count - expected) ** 2 / expected for count in digits.values())
    assert chi_squared < 150  # 61 degrees of freedom: one run in 10^8 exceeds this


def test_secret_is_in_no_representation() -> None:
    key = new_key()
    shown = (
        repr(key) + str(key) + repr(Peppers.parse(PEPPER)) + repr(Peppers.parse(PEPPER).proof(key))
    )
    assert key.secret not in shown
    assert PEPPER not in shown


@given(st.integers(0, 70), st.sampled_from("0aZ_-é\n\0"))
def test_one_changed_character_is_noticed(at: int, to: str) -> None:
    text = KNOWN.reveal()
    changed = text[:at] + to + text[at + 1 :]
    assert (KeyText.parse(changed) is None) == (changed != text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "aqf",
        "aqf___",
        KNOWN.reveal() + "\n",
        " " + KNOWN.reveal(),
        KNOWN.reveal().upper(),
        KNOWN.reveal().replace("aqf", "aqg"),
        KNOWN.reveal().replace("_", "-"),
        KNOWN.reveal()[:-1],
        KNOWN.reveal() + KNOWN.reveal(),
        KNOWN.reveal().replace("0123456789", "٠١٢٣٤٥٦٧٨٩"),
        "aqf_" + "a" * 1_000_000,
        "Bearer " + KNOWN.reveal(),
    ],
)
def test_anything_else_is_no_key(text: str) -> None:
    assert KeyText.parse(text) is None


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    key = KeyText.parse(text)
    assert key is None or key.reveal() == text


@pytest.mark.parametrize(
    "text", ["", "a" * 15, "a" * 17, "a" * 15 + "\n", "a" * 15 + "\0", "é" * 16]
)
def test_odd_ids_are_no_key_ids(text: str) -> None:
    assert not is_key_id(text)


def test_proof_is_of_one_key_under_one_pepper() -> None:
    peppers, key = Peppers.parse(PEPPER), new_key()
    proof = peppers.proof(key)
    assert peppers.confirm(key, proof)
    assert not peppers.confirm(replace(key, secret=new_key().secret), proof)
    assert not peppers.confirm(replace(key, key_id=new_key().key_id), proof)
    assert not Peppers.parse(OTHER).confirm(key, proof)


def test_nothing_is_confirmed_without_a_stored_proof() -> None:
    peppers = Peppers.parse(PEPPER)
    assert not peppers.confirm(new_key(), None)
    assert not peppers.confirm(new_key(), Proof(7, bytes(32)))


def test_new_pepper_makes_proofs_and_the_old_one_still_checks_its_own() -> None:
    key = new_key()
    before = Peppers.parse(f"1:{PEPPER}").proof(key)
    both = Peppers.parse(f"1:{PEPPER}, 2:{OTHER}")
    assert both.confirm(key, before)
    assert both.proof(key).pepper_version == 2
    assert not Peppers.parse(f"2:{OTHER}").confirm(key, before)


def test_pepper_without_version_is_the_first() -> None:
    key = new_key()
    assert Peppers.parse(f"1:{PEPPER}").confirm(key, Peppers.parse(PEPPER).proof(key))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "short",
        f"1:{'x' * 31}",
        f"x:{PEPPER}",
        f"1:{PEPPER},1:{OTHER}",
        f"{PEPPER},",
        f"1:{PEPPER} {OTHER}",
        "x" * 257,
    ],
)
def test_bad_pepper_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(FailedPreconditionError) as refused:
        Peppers.parse(text)
    assert refused.value.reason == "PEPPER_INVALID"
    assert not re.search(r"x{20}|p{20}", str(refused.value) + repr(refused.value.facts))
