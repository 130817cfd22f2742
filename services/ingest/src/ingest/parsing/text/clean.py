"""Cleans text; all later steps store, quote and count offsets in the cleaned text."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from ingest.parsing.outline_marks import MARKS, settle_marks

# Normalising sorts a run of combining marks in quadratic time inside one C call. No script needs
# more than this many, and Unicode's own stream-safe form breaks longer runs the same way.
MARKS_MAX = 30
GRAPHEME_JOINER = "\u034f"
TITLE_MAX_CHARS = 300
BLOCK_CHARS = 1 << 18

_NEWLINES = "\r\v\x85\u2028\u2029"
_SPACES = "\xa0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
# Ligatures, which a search for the plain letters would not find.
_LIGATURES = ("ff", "fi", "fl", "ffi", "ffl", "st", "st")
# Soft hyphens and zero-width blanks split words for search; overrides and tag characters hide text
# from readers; lone surrogates and NUL cannot be stored.
_DROPPED = (
    *range(0x20),
    *range(0x7F, 0xA0),
    *(0xAD, 0x180E, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF),
    *range(0x202A, 0x202F),
    *range(0x2061, 0x2070),
    *range(0xD800, 0xE000),
    *range(0xFFF9, 0xFFFC),
    *range(0xE0000, 0xE0080),
)
_TABLE: dict[int, str | None] = (
    dict.fromkeys(_DROPPED)
    | dict.fromkeys(map(ord, _NEWLINES), "\n")
    | dict.fromkeys(map(ord, _SPACES), " ")
    | dict(enumerate(_LIGATURES, 0xFB00))
    | {ord("\n"): "\n", ord("\t"): "\t", ord("\f"): "\n\n"}
)
_MARKED_TABLE = {code: sign for code, sign in _TABLE.items() if chr(code) not in MARKS}


def _ranges(codes: Iterable[int]) -> str:
    """Body of a character class, as ranges: single characters match 40 times slower."""
    body, ordered = "", sorted(codes)
    first = ordered[0]
    for code, following in zip(ordered, [*ordered[1:], -1], strict=True):
        if following != code + 1:
            body += f"\\U{first:08x}-\\U{code:08x}"
            first = following
    return body


BASIC_PLANE = range(0x10000)
_marks = [code for code in range(0x300, 0x1F000) if unicodedata.combining(chr(code))]
_mark = (
    f"(?:[{_ranges(code for code in _marks if code in BASIC_PLANE)}]"
    f"|(?=[\U00010000-\U0001efff])[{_ranges(code for code in _marks if code not in BASIC_PLANE)}])"
)
_MARK_RUN = re.compile(f"((?:{_mark}){{{MARKS_MAX}}})(?={_mark})")
_ALTERED = re.compile(f"[{_ranges(set(_TABLE) - {9, 10})}]")
_MARKED_ALTERED = re.compile(f"[{_ranges(set(_MARKED_TABLE) - {9, 10})}]")
_NOT_ASCII = re.compile(f"[^\0-\x7f{_ranges(map(ord, MARKS))}]")
_BLANK_LINES = re.compile(r"\n{3,}")


def clean(text: str, *, is_marked: bool = False) -> str:
    r"""Clean a text: NFC, `\n` line ends, at most one blank line in a row, nothing invisible.

    The marks of `outline_marks` stay only if the text is marked.
    """
    text = text.replace("\r\n", "\n")
    if is_marked:
        text = text.translate(_MARKED_TABLE) if _MARKED_ALTERED.search(text) else text
        text = settle_marks(text)
    elif _ALTERED.search(text):
        text = text.translate(_TABLE)
    if not text.isascii() and _NOT_ASCII.search(text):
        text = unicodedata.normalize("NFC", _MARK_RUN.sub(rf"\1{GRAPHEME_JOINER}", text))
    text = "".join(_strip_line_ends(text))
    return _BLANK_LINES.sub("\n\n", text).strip()


def _strip_line_ends(text: str) -> Iterator[str]:
    """Strip line ends block by block: a list of all lines of a large text would fill the memory."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + BLOCK_CHARS) + 1 or len(text)
        yield "\n".join([line.rstrip() for line in text[start:end].split("\n")])
        start = end


def is_clean(text: str) -> bool:
    """Whether a part of a text has no characters that `clean` removes or replaces."""
    return _ALTERED.search(text) is None


def clean_title(title: str) -> str:
    """Clean a title: one line of at most `TITLE_MAX_CHARS` characters."""
    return " ".join(clean(title[: 4 * TITLE_MAX_CHARS]).split())[:TITLE_MAX_CHARS].rstrip()
