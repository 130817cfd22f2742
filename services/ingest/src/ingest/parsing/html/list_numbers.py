"""The marks of list items, as HTML asks for them."""

from ingest.parsing.html.rules import Attributes

BULLET = "- "
# What an attribute says beyond this is no number of a list that people read.
NUMBER_MAX_DIGITS = 9
ROMAN_MAX = 3999
_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l")),
    *((40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)


class ListMarks:
    """Counts the items of one list."""

    def __init__(self, tag: str, attributes: Attributes) -> None:
        self._ordered = tag == "ol"
        self._kind = attributes.get("type") or "1"
        self._step = -1 if "reversed" in attributes else 1
        self._next = _read_number(attributes.get("start"), 1)

    def take(self, item: Attributes) -> str:
        if not self._ordered:
            return BULLET
        number = _read_number(item.get("value"), self._next)
        self._next = number + self._step
        return f"{_write_number(number, self._kind)}. "


def _read_number(text: str | None, otherwise: int) -> int:
    digits = (text or "").strip()
    unsigned = digits.removeprefix("-")
    if not (unsigned.isascii() and unsigned.isdecimal()) or len(unsigned) > NUMBER_MAX_DIGITS:
        return otherwise
    return int(digits)


def _write_number(number: int, kind: str) -> str:
    if kind in {"a", "A"} and number > 0:
        letters = _write_letters(number)
    elif kind in {"i", "I"} and 0 < number <= ROMAN_MAX:
        letters = _write_roman(number)
    else:
        return str(number)
    return letters.upper() if kind.isupper() else letters


def _write_letters(number: int) -> str:
    letters = ""
    while number:
        number, index = divmod(number - 1, 26)
        letters = chr(ord("a") + index) + letters
    return letters


def _write_roman(number: int) -> str:
    written = ""
    for value, letters in _ROMAN:
        count, number = divmod(number, value)
        written += letters * count
    return written
