"""Masks personal data that has a form of its own; the names and addresses of people have none.

What looks like such data is checked as far as its kind allows: by its checksum, or by the rules of
the country that issues it. So most other numbers stay.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import phonenumbers
from idnumbers import validate

from ingest.parsing.outline_marks import insert_marks, split_marks
from ingest.parsing.steps.pages import Changed, Pages

# Countries whose phone numbers are found without `+`, with a zero or an area code first.
TRUNK_COUNTRIES: Final = ("GB", "FR", "NL", "DE")
AREA_COUNTRIES: Final = ("US",)
EMAIL_NAME_MAX_CHARS: Final = 64
IBAN_MIN_CHARS: Final = 15

Span = tuple[int, int]
# Its place and its signs.
Mark = tuple[int, str]
# The place of personal data at or around a match, if there is any.
Check = Callable[[re.Match[str]], Span | None]

_BEFORE_AT = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+\Z")
_DOMAIN = re.compile(r"(?:[\w-]{1,63}\.){1,8}(?:xn--[a-z0-9-]+|[^\W\d_]{2,63})")
_SEPARATORS = re.compile(r"[ ./-]")


def run(pages: Pages) -> Changed:
    """Puts the kind in brackets in the place of the data, as in `[EMAIL]`, also in the title."""
    counts = Counter[str]()
    title = _mask(pages.title, counts)
    texts = [_mask(text, counts) for text in pages.texts]
    return Pages(title, texts), {kind: counts[kind] for kind in sorted(counts)}


def _mask(marked: str, counts: Counter[str]) -> str:
    """Marks stand between the words of data that runs over a line, so it is found without them."""
    text, marks = split_marks(marked)
    for kind, pattern, check in _KINDS:
        spans = list(_find(text, pattern, check))
        if spans:
            counts[kind] += len(spans)
            ends = [0, *(end for _, end in spans)]
            starts = [*(start for start, _ in spans), len(text)]
            kept = (text[end:start] for end, start in zip(ends, starts, strict=True))
            mask = f"[{kind}]"
            text = mask.join(kept)
            marks = list(_move(marks, spans, len(mask)))
    return insert_marks(text, marks)


def _move(marks: Sequence[Mark], spans: Sequence[Span], mask_chars: int) -> Iterator[Mark]:
    """The marks in the masked text; one inside of a span stands behind its mask."""
    left, shift = iter(spans), 0
    span = next(left, None)
    for place, mark in marks:
        while span and span[1] <= place:
            shift += mask_chars - (span[1] - span[0])
            span = next(left, None)
        inside = span is not None and span[0] < place
        yield (span[0] + shift + mask_chars if span and inside else place + shift), mark


def _find(text: str, pattern: re.Pattern[str], check: Check) -> Iterator[Span]:
    """Yields the places of one kind of data, which do not overlap."""
    behind = start = 0
    while found := pattern.search(text, start):
        span = check(found)
        if span is None:
            start = found.start() + 1
        else:
            yield max(behind, span[0]), span[1]
            behind = start = span[1]


def _check_email(found: re.Match[str]) -> Span | None:
    text, at = found.string, found.start()
    name = _BEFORE_AT.search(text, max(0, at - EMAIL_NAME_MAX_CHARS), at)
    domain = _DOMAIN.match(text, at + 1)
    return (name.start(), domain.end()) if name and domain else None


def _check_iban(found: re.Match[str]) -> Span | None:
    """Words after a number look like a part of it, so its end is where the checksum is right."""
    text = found[0]
    for end in range(len(text), IBAN_MIN_CHARS - 1, -1):
        if text[end - 1].isalnum() and not text[end : end + 1].isalnum() and _is_iban(text[:end]):
            return found.start(), found.start() + end
    return None


def _is_iban(written: str) -> bool:
    signs = _SEPARATORS.sub("", written)
    if len(signs) < IBAN_MIN_CHARS:
        return False
    return int("".join(str(int(sign, 36)) for sign in signs[4:] + signs[:4])) % 97 == 1


def _check_ip(found: re.Match[str]) -> Span | None:
    try:
        ipaddress.ip_address(found[0])
    except ValueError:
        return None
    # A word between colons, as some programming languages have it, is no address.
    return found.span() if any(map(str.isdigit, found[0])) else None


def _check_card(found: re.Match[str]) -> Span | None:
    digits = [int(one) for one in found[0] if one.isdigit()][::-1]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return None if (sum(digits[::2]) + sum(doubled)) % 10 else found.span()


def _check_national_id(found: re.Match[str]) -> Span | None:
    assert found.lastgroup is not None, "every form has a name"
    countries = _NATIONAL_IDS[int(found.lastgroup.removeprefix("form"))][1].split()
    for written in {found[0], _SEPARATORS.sub("", found[0])}:
        if any(validate(country, written).is_valid for country in countries):
            return found.span()
    return None


def _check_phone(found: re.Match[str]) -> Span | None:
    countries: Sequence[str | None] = (None,)
    if not found[0].startswith("+"):
        countries = TRUNK_COUNTRIES if found[0].lstrip("(").startswith("0") else AREA_COUNTRIES
    for country in countries:
        with suppress(phonenumbers.NumberParseException):
            if phonenumbers.is_valid_number(phonenumbers.parse(found[0], country)):
                return found.span()
    return None


def _compile(pattern: str) -> re.Pattern[str]:
    """A pattern for what is no part of a longer word or number."""
    return re.compile(rf"(?<!\w)(?<!\d[-/.])(?:{pattern})(?!\w|[.-]\d)")


_CARD = (
    r"(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|35\d\d|6011|6[245]\d\d)"
    r"(?:\d{9}(?:\d{3}(?:\d{3})?)?|([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?)"
    r"|3[47]\d\d([ -]?)\d{6}\2\d{5}|3[0689]\d\d([ -]?)\d{6}\3\d{4}"
)
# How the numbers are written, and the countries that write theirs so. Left out are those of which
# the check passes more than a few of a hundred other numbers.
_NATIONAL_IDS: Final = (
    (r"\d{3}-\d{2}-\d{4}", "USA"),
    (r"[A-Z]{2} ?\d\d ?\d\d ?\d\d ?[A-D]", "GBR"),
    (r"[1-478] ?\d\d ?\d\d ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", "FRA"),
    (r"\d{8}-?[A-Z]", "ESP"),
    (r"[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z]", "ITA"),
    (r"\d{11}|\d\d \d{3} \d{3} \d{3}", "DEU POL BEL NOR EST LTU"),
    (r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", "BEL"),
    (r"756\.\d{4}\.\d{4}\.\d\d", "CHE"),
    (r"\d{6}-\d{4}", "SWE DNK ISL"),
    (r"\d{6}[-+A]\d{3}[0-9A-Y]", "FIN"),
    (r"\d{6}/\d{4}", "CZE SVK"),
    (r"\d{13}", "ROU ZAF SRB SVN BIH"),
    (r"\d{3}\.\d{3}\.\d{3}-\d\d", "BRA"),
    (r"[A-Z]{4}\d{6}[A-Z]{6}[A-Z0-9]\d", "MEX"),
    (r"[STFGM]\d{7}[A-Z]", "SGP"),
    (r"[A-Z][1289]\d{8}", "TWN"),
    (r"\d{17}[0-9X]", "CHN"),
    (r"\d{4} \d{4} \d{4}", "IND"),
)
_NATIONAL_ID = "|".join(
    f"(?P<form{number}>{form})" for number, (form, _) in enumerate(_NATIONAL_IDS)
)
_PHONE = (
    r"(?<!\d,)(?<!\s\.)(?!\d\d?(?P<date>[./-])\d\d?(?P=date)\d{2,4}(?!\d|(?P=date)\d))"
    r"(?:0[1-9](?P<pair>[ .-])\d\d(?:(?P=pair)\d\d){3}"
    r"|(?:\+\d{0,3} ?\(?|\((?=\d{2,5}\))0|0)\d(?:[ )./-]{0,3}(?:\(0\)[ ./-]?)?\d){5,13}"
    r"|\(\d{3}\) ?\d{3}[-. ]\d{4}|\d{3}(?P<area>[-. ])\d{3}(?P=area)\d{4})"
)

_IP = re.compile(
    r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\w)|[0-9A-Fa-f.:]{6,45}(?<![.:])(?!\w|[.:]\w))"
)

# Each kind is searched in what those before it have left.
_KINDS: Final[Sequence[tuple[str, re.Pattern[str], Check]]] = (
    ("EMAIL", re.compile("@"), _check_email),
    ("IBAN", re.compile(r"(?<!\w)[A-Za-z]{2}\d\d(?:[ -]?[A-Za-z0-9]){11,30}"), _check_iban),
    ("IP_ADDRESS", _IP, _check_ip),
    ("CREDIT_CARD", _compile(_CARD), _check_card),
    ("NATIONAL_ID", _compile(_NATIONAL_ID), _check_national_id),
    ("PHONE", _compile(_PHONE), _check_phone),
)
