"""Decodes bytes of unknown encoding to exactly the text they stand for, or refuses them."""

import codecs
import re
from typing import NamedTuple

from chassis.base.errors import InvalidInputError
from ingest.notes import Note, NoteCode, render_count
from ingest.parsing.failure import ParseFailure
from ingest.parsing.text.charset import find_codec, find_label
from ingest.parsing.text.encoding import SAMPLE_BYTES, decode_strictly, find_encoding

# Share of control characters above which bytes are no text: random bytes have 11 %, logs below 1 %.
CONTROL_SHARE = 0.05
# UTF-8 with damaged places is still UTF-8 if whole sequences outnumber them, by this factor.
WHOLE_PER_DAMAGED = 2
REPLACEMENT = "\ufffd"

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
# ISO 2022 and HZ are ASCII bytes with escape sequences.
_SEVEN_BIT = re.compile(rb"\x1b[$(][@-J]|\x1b\$\)C|~\{[!-~]")
_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1b"))


class Decoded(NamedTuple):
    """A text, and what had to be guessed or repaired to get it."""

    text: str
    notes: tuple[Note, ...] = ()


def decode(data: bytes, *, charset: str) -> Decoded:
    """Decode `data`; `charset` is what is declared, and may be empty or wrong.

    Tries in turn: a byte order mark, the NUL pattern of UTF-16 and UTF-32, UTF-8, the declared
    encoding, UTF-8 with a few damaged places, which become U+FFFD, and statistics.

    Raises:
        InvalidInputError: `TEXT_UNDECODABLE`, also when no encoding is certain enough.
    """
    found = decode_unicode(data)
    if found is None and not _is_marked(data) and not _is_binary(data):
        text = _decode_declared(data, charset)
        found = Decoded(text) if text is not None else _decode_undeclared(data, charset)
    if found is None:
        raise InvalidInputError(ParseFailure.TEXT_UNDECODABLE, _describe_failure(data))
    return found


def decode_unicode(data: bytes) -> Decoded | None:
    """Decode `data` if it is certain to be Unicode; None if the encoding has to be guessed."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_all(data[len(mark) :], encoding)
    if b"\x00" in data and (wide := _decode_wide(data)) is not None:
        return wide
    if _is_binary(data) or _SEVEN_BIT.search(data):
        return None
    return _decode_all(data, "utf-8")


def _decode_undeclared(data: bytes, charset: str) -> Decoded | None:
    """Decode `data`, which is not in the encoding that `charset` declares, if it does."""
    repaired, codec = _decode_damaged(data), find_codec(charset)
    found = repaired or _decode_detected(data)
    if found is None or not charset or (repaired and codec == "utf-8"):
        return found
    why = f"the bytes are not {find_label(codec)}" if codec else "its name is not known"
    note = Note(NoteCode.CHARSET_IGNORED, f"the declared encoding was ignored: {why}")
    return Decoded(found.text, (note, *found.notes))


def _describe_failure(data: bytes) -> str:
    if _is_binary(data):
        return "the bytes are not text; send a file of one of the accepted formats"
    return (
        "the encoding is not certain; convert the text to UTF-8, or declare its charset in the"
        " media type, as in text/plain; charset=windows-1252"
    )


def _is_marked(data: bytes) -> bool:
    return any(data.startswith(mark) for mark, _ in _MARKS)


def _is_binary(data: bytes) -> bool:
    return len(data) - len(data.translate(None, _CONTROLS)) > len(data) * CONTROL_SHARE


def _decode_all(data: bytes, encoding: str) -> Decoded | None:
    try:
        return Decoded(data.decode(encoding))
    except UnicodeDecodeError:
        return None


def _decode_declared(data: bytes, charset: str) -> str | None:
    codec = find_codec(charset)
    return decode_strictly(data, codec) if codec else None


def _decode_damaged(data: bytes) -> Decoded | None:
    text = data.decode("utf-8", "replace")
    damaged = text.count(REPLACEMENT) - data.count(REPLACEMENT.encode())
    whole = len(text) - len(text.encode("ascii", "ignore")) - text.count(REPLACEMENT)
    if not 0 < WHOLE_PER_DAMAGED * damaged <= whole:
        return None
    detail = f"{render_count(damaged, 'damaged place')} became U+FFFD; the rest is UTF-8"
    return Decoded(text, (Note(NoteCode.TEXT_REPAIRED, detail),))


def _decode_detected(data: bytes) -> Decoded | None:
    guess = find_encoding(data)
    if guess is None or (text := decode_strictly(data, guess.encoding)) is None:
        return None
    detail = f"read as {find_label(guess.encoding)}, confidence {guess.confidence:.2f}"
    if guess.is_confirmed:
        detail += ", confirmed by a second library"
    return Decoded(text, (Note(NoteCode.ENCODING_DETECTED, detail),))


def _decode_wide(data: bytes) -> Decoded | None:
    """Decode UTF-16 or UTF-32 without a byte order mark; None if it is neither.

    The wrong byte order turns blanks and ASCII into rare ideographs, so the candidate with most
    ASCII is right. Below a tenth of ASCII, the result would be unreliable.
    """
    best, best_share = None, 0.1
    for encoding in _WIDE:
        width = 4 if encoding.startswith("utf-32") else 2
        if len(data) % width or (head := _decode_all(data[:SAMPLE_BYTES], encoding)) is None:
            continue
        share = sum(character.isspace() or " " <= character <= "~" for character in head.text)
        if share / len(head.text) > best_share:
            best, best_share = encoding, share / len(head.text)
    if best is None or (whole := _decode_all(data, best)) is None:
        return None
    note = Note(NoteCode.ENCODING_DETECTED, f"read as {best}, by the pattern of its zero bytes")
    return Decoded(whole.text, (note,))
