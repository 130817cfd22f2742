"""Finds the encoding of text that declares none, by statistics on its bytes."""

import codecs
import re
from collections import defaultdict
from types import ModuleType
from typing import NamedTuple

from ingest.parsing.text.charset import find_codec

SAMPLE_BYTES = 64 * 1024
LINE_BYTES = 2048
# Of 845 texts of 12 to 1,000 bytes in 23 languages and 34 encodings, the first guess was wrong for
# 34; for 1 with a confidence at or above this, and for none on which both libraries agreed or for
# which the encodings that give the same characters have more than this share of all confidence.
CONFIDENCE_MIN = 0.3
SHARE_MIN = 0.5
# Both libraries agree on wrong characters for some single words.
TEXT_MIN_BYTES = 20

_HIGH = re.compile(rb"[\x80-\xff]")
# All but the line end NEL.
_CONTROLS = re.compile("[\x80-\x84\x86-\x9f]")


class _Libraries(NamedTuple):
    chardet: ModuleType
    cchardet: ModuleType


def load_statistics() -> _Libraries:
    """Loads the two libraries; takes a tenth of a second and is rarely needed."""
    import cchardet  # noqa: PLC0415
    import chardet  # noqa: PLC0415

    return _Libraries(chardet, cchardet)


class Guess(NamedTuple):
    """A Python codec and the confidence in it; `is_confirmed` by the second library."""

    encoding: str
    confidence: float
    is_confirmed: bool


def find_encoding(data: bytes) -> Guess | None:
    """Finds the encoding of `data`; None when it is not certain.

    It is certain when two independent libraries read the same characters, when one is confident,
    or when those that give the same characters have more than half of all confidence.
    """
    if len(data) < TEXT_MIN_BYTES:
        return None
    sample = _take_sample(data)
    weights = defaultdict[str, float](float)
    ranking = _rank_encodings(sample)
    for encoding, confidence in ranking:
        if (text := _decode_sample(sample, encoding)) is not None:
            weights[text] += confidence
    if not ranking or (text := _decode_sample(sample, ranking[0][0])) is None:
        return None
    encoding, confidence = ranking[0]
    second = load_statistics().cchardet.detect(sample)["encoding"] or ""
    second = find_codec(second) or second
    is_confirmed = _decode_sample(sample, second) == text
    certain = (
        is_confirmed
        or confidence >= CONFIDENCE_MIN
        or weights[text] >= SHARE_MIN * sum(weights.values())
    )
    return Guess(encoding, confidence, is_confirmed) if certain else None


def _rank_encodings(sample: bytes) -> list[tuple[str, float]]:
    """Python codecs and their confidence, the likeliest first; EBCDIC reads any bytes as text."""
    chardet = load_statistics().chardet
    era = chardet.EncodingEra.ALL & ~chardet.EncodingEra.MAINFRAME
    found = chardet.detect_all(sample, ignore_threshold=True, encoding_era=era)
    named = [(one["encoding"] or "", one["confidence"]) for one in found]
    return [(find_codec(name) or name, confidence) for name, confidence in named]


def decode_strictly(data: bytes, encoding: str) -> str | None:
    """Decodes `data`; None when it is not in this encoding.

    Also none when control characters of Unicode's second block come out: they are the sign of a
    Windows encoding under the name of its ISO relative.
    """
    return _decode(data, encoding, is_whole=True)


def _decode_sample(sample: bytes, encoding: str) -> str | None:
    """`decode_strictly` for a sample, which may end inside a character."""
    return _decode(sample, encoding, is_whole=False)


def _decode(data: bytes, encoding: str, *, is_whole: bool) -> str | None:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(data, is_whole)
    except (UnicodeError, LookupError):
        return None
    return None if _CONTROLS.search(text) else text


def _take_sample(data: bytes) -> bytes:
    """Take the first lines with a byte above ASCII, or the beginning if there are none."""
    lines, size, start = [], 0, 0
    while size < SAMPLE_BYTES and (high := _HIGH.search(data, start)):
        position = high.start()
        earliest = max(start, position - LINE_BYTES)
        begin = data.rfind(b"\n", earliest, position) + 1 or earliest
        end = data.find(b"\n", position, position + LINE_BYTES) + 1
        start = end or position + LINE_BYTES
        lines.append(data[begin:start])
        size += len(lines[-1])
    return b"".join(lines) or data[:SAMPLE_BYTES]
