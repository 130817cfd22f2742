"""Finds personal data that can be told from other text: by its form, or by its checksum."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from typing_extensions import override

from query.guardrail import Finding
from query.usecases.guardrails import Check

EMAIL_NAME_MAX_CHARS: Final = 64
IBAN_MIN_CHARS, IBAN_MAX_CHARS = 15, 34
CARD_MIN_DIGITS, CARD_MAX_DIGITS = 13, 19

Span = tuple[int, int]

# All of them are tried at single places, on a bounded number of characters.
_BEFORE_AT: Final = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+\Z")
_DOMAIN: Final = re.compile(r"(?:[\w-]{1,63}\.){1,8}(?:xn--[a-z0-9-]{1,59}|[^\W\d_]{2,63})")
_IBAN_START: Final = re.compile(r"(?<!\w)[A-Za-z]{2}\d\d(?=[ -]?\w)", re.ASCII)
_IBAN: Final = re.compile(
    rf"[A-Za-z]{{2}}\d\d(?:[ -]?[A-Za-z0-9]){{11,{IBAN_MAX_CHARS - 4}}}", re.ASCII
)
_DIGITS: Final = re.compile(r"(?<!\w)\d+(?:[ -]\d+)*(?!\w)", re.ASCII)
_GROUP: Final = re.compile(r"\d+", re.ASCII)
# Lengths of the groups of digits.
_WRITTEN: Final = {
    *((digits,) for digits in range(CARD_MIN_DIGITS, CARD_MAX_DIGITS + 1)),
    *((4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4)),
}
_GROUP_COUNTS: Final = sorted({len(lengths) for lengths in _WRITTEN})
# Those of the large networks; other numbers with the right checksum are mostly none.
_CARD_START: Final = re.compile(r"4|5[1-5]|2[2-7]|3[47]|3[0689]|35|6")


def _find_emails(text: str) -> Iterator[Span]:
    for at in re.finditer("@", text):
        name = _BEFORE_AT.search(text, max(0, at.start() - EMAIL_NAME_MAX_CHARS), at.start())
        domain = _DOMAIN.match(text, at.end())
        if name and domain:
            yield name.start(), domain.end()


def _find_ibans(text: str) -> Iterator[Span]:
    for found in _IBAN_START.finditer(text):
        written = _IBAN.match(text, found.start())
        if written and (chars := _measure_iban(written[0])):
            yield found.start(), found.start() + chars


def _measure_iban(text: str) -> int:
    """Words behind a number look like a part of it, so it ends where its checksum is right."""
    # Its first four signs count as its last ones.
    moved = "".join(str(int(sign, 36)) for sign in text[:4])
    weight, rest, signs, end = 10 ** len(moved), 0, 4, 0
    for place, sign in enumerate(text[4:], 5):
        if not sign.isalnum():
            continue
        value = int(sign, 36)
        rest = (rest * (10 if value < 10 else 100) + value) % 97  # noqa: PLR2004
        signs += 1
        is_whole = signs >= IBAN_MIN_CHARS and not text[place : place + 1].isalnum()
        if is_whole and (rest * weight + int(moved)) % 97 == 1:
            end = place
    return end


def _find_cards(text: str) -> Iterator[Span]:
    """Numbers as people write them; other numbers may stand before and behind."""
    for run in _DIGITS.finditer(text):
        if len(run[0]) < CARD_MIN_DIGITS:
            continue
        groups = list(_GROUP.finditer(text, *run.span()))
        for first in range(len(groups)):
            for count in _GROUP_COUNTS:
                number = groups[first : first + count]
                lengths = tuple(len(one[0]) for one in number)
                if lengths in _WRITTEN and _is_card("".join(one[0] for one in number)):
                    yield number[0].start(), number[-1].end()


def _is_card(number: str) -> bool:
    digits = [int(one) for one in reversed(number)]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return _CARD_START.match(number) is not None and (sum(digits[::2]) + sum(doubled)) % 10 == 0


FINDERS: Final[Mapping[str, Callable[[str], Iterator[Span]]]] = {
    "EMAIL": _find_emails,
    "IBAN": _find_ibans,
    "CREDIT_CARD": _find_cards,
}


class PersonalDataCheck(Check):
    """See `Check`; finds e-mail addresses, IBANs and numbers of payment cards."""

    def __init__(self, kinds: Sequence[str] = tuple(FINDERS)) -> None:
        self._kinds = kinds

    @override
    async def inspect(self, text: str) -> Sequence[Finding]:
        return [
            Finding(start=start, end=end, kind=kind)
            for kind in self._kinds
            for start, end in FINDERS[kind](text)
        ]
