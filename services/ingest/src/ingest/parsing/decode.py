"""Decodes bytes of unknown encoding without loss, or refuses them."""

import codecs
import re
from types import ModuleType

from chassis.base.errors import InvalidInputError
from ingest.parsing.failure import ParseFailure

SAMPLE_BYTES = 64 * 1024
LINE_BYTES = 2048
# Share of control characters above which bytes are no text: random bytes have 11 %, logs below 1 %.
CONTROL_SHARE = 0.05
# cp1252 is by far the most common encoding: it wins if its score is at most this much worse.
CHAOS_MARGIN = 0.02

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_BYTEWISE = [
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258"),
    *("cp874", "koi8_r", "koi8_u", "mac_roman", "cp437", "cp850", "cp866", "latin_1"),
    *(f"iso8859_{part}" for part in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)),
    *("cp932", "shift_jis", "shift_jis_2004", "euc_jp", "iso2022_jp", "iso2022_kr"),
    *("gb2312", "gbk", "gb18030", "big5", "big5hkscs", "cp950", "euc_kr", "cp949"),
]
_SEVEN_BIT = re.compile(rb"\x1b[$(][@-J]|\x1b\$\)C")
_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1b"))
_HIGH = re.compile(rb"[\x80-\xff]")
_LETTER = re.compile(rb"[A-Za-z]")
_META_CHARSET = re.compile(rb"<meta[^>]{0,256}?charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)


def decode(data: bytes, *, charset: str) -> str:
    """Decode `data` without loss; `charset` is a hint and may be empty or wrong.

    Tries in turn: a byte order mark, the NUL pattern of UTF-16 and UTF-32, UTF-8, the hint, and
    statistics on a sample.

    Raises:
        InvalidInputError: `TEXT_UNDECODABLE`.
    """
    text = decode_unicode(data)
    if text is None and not _is_marked(data) and not _is_binary(data):
        text = _decode_legacy(data, charset)
    if text is None:
        raise InvalidInputError(
            ParseFailure.TEXT_UNDECODABLE,
            "the bytes are not text in a known encoding; convert the text to UTF-8",
        )
    return text


def decode_unicode(data: bytes) -> str | None:
    """Decode `data` without guessing; None if the encoding has to be guessed."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_strict(data[len(mark) :], encoding)
    if b"\x00" in data and (wide := _decode_wide(data)) is not None:
        return wide
    if _is_binary(data) or _SEVEN_BIT.search(data):
        return None
    return _decode_strict(data, "utf-8")


def load_statistics() -> ModuleType:
    """Load the library that guesses encodings; takes a tenth of a second and is rarely needed."""
    import charset_normalizer  # noqa: PLC0415

    return charset_normalizer


def find_html_charset(data: bytes) -> str:
    """Find the encoding that an HTML document declares in its head; empty if there is none."""
    found = _META_CHARSET.search(data[:2048])
    return found[1].decode("ascii", "replace") if found else ""


def _is_marked(data: bytes) -> bool:
    return any(data.startswith(mark) for mark, _ in _MARKS)


def _is_binary(data: bytes) -> bool:
    return len(data) - len(data.translate(None, _CONTROLS)) > len(data) * CONTROL_SHARE


def _decode_legacy(data: bytes, charset: str) -> str | None:
    guesses = [guess for guess in (_check_charset(charset), *_guess_encodings(data)) if guess]
    decoded = (_decode_strict(data, guess) for guess in guesses)
    return next((text for text in decoded if text is not None), None)


def _decode_strict(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _decode_wide(data: bytes) -> str | None:
    """Decode UTF-16 or UTF-32 without a byte order mark; None if it is neither.

    The wrong byte order turns blanks and ASCII into rare ideographs, so the candidate with most
    ASCII is right. Below a tenth of ASCII, the result would be unreliable.
    """
    best, best_share = None, 0.1
    for encoding in _WIDE:
        width = 4 if encoding.startswith("utf-32") else 2
        if len(data) % width or (head := _decode_strict(data[:SAMPLE_BYTES], encoding)) is None:
            continue
        share = sum(character.isspace() or " " <= character <= "~" for character in head)
        if share / len(head) > best_share:
            best, best_share = encoding, share / len(head)
    return _decode_strict(data, best) if best else None


def _check_charset(charset: str) -> str:
    """Python's name of a bytewise encoding; empty for any other codec."""
    try:
        name = codecs.lookup(charset).name.replace("-", "_")
    except LookupError:
        return ""
    # As on the web: Latin-1 means its superset cp1252.
    name = "cp1252" if name in ("iso8859_1", "ascii") else name
    return name if name in _BYTEWISE else ""


def _guess_encodings(data: bytes) -> list[str]:
    """Guess encodings, the most plausible first, from lines that are not plain ASCII."""
    sample = _take_sample(data)
    matches = load_statistics().from_bytes(sample, cp_isolation=_BYTEWISE, enable_fallback=False)
    best = matches.best()
    if best is None:
        return []
    ranked = [match.encoding for match in matches]
    twins = set(best.could_be_from_charset)
    twins |= {
        match.encoding
        for match in matches
        if match.chaos <= best.chaos + CHAOS_MARGIN and match.coherence >= best.coherence
    }
    # Too little text to detect a language: between plain letters, accents are most likely.
    high, letters = len(_HIGH.findall(sample)), len(_LETTER.findall(sample))
    unsure = not best.coherence and 0 < high <= letters
    return ["cp1252", *ranked] if unsure or "cp1252" in twins else ranked


def _take_sample(data: bytes) -> bytes:
    """Take the first lines with a byte above ASCII, or the beginning if there are none."""
    lines, size, start = [], 0, 0
    while size < SAMPLE_BYTES and (high := _HIGH.search(data, start)):
        position = high.start()
        begin = data.rfind(b"\n", max(start, position - LINE_BYTES), position) + 1
        end = data.find(b"\n", position, position + LINE_BYTES) + 1
        start = end or position + LINE_BYTES
        lines.append(data[begin or max(0, position - LINE_BYTES) : start])
        size += len(lines[-1])
    return b"".join(lines) or data[:SAMPLE_BYTES]
