"""Forms of a word that differ only in marks: `Müll`, `mull` and `muell`."""

import unicodedata
from typing import Final

import regex  # type: ignore[import-untyped]

# In these scripts marks are left out by many writers. In others they are vowels.
_MARK: Final = regex.compile(
    r"[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640"
    r"\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed]"
)
# Letters that Unicode does not take apart.
_LETTERS: Final = str.maketrans(
    {
        "ł": "l",
        "ø": "o",
        "đ": "d",
        "ð": "d",
        "ħ": "h",
        "ı": "i",
        "œ": "oe",
        "æ": "ae",
        "þ": "th",
    }
)
_TRANSCRIBED: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})


def fold(word: str) -> str:
    """A word in lower case without optional marks."""
    if word.isascii():
        return word
    bare = _MARK.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", bare).translate(_LETTERS)


def transcribe(word: str) -> str:
    """A word in lower case with its umlauts as two letters, then folded."""
    return fold(word.translate(_TRANSCRIBED))
