"""Tells the language of a text by its function words, and stems words."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Final

import regex  # type: ignore[import-untyped]
from Stemmer import Stemmer

from query.words.function_words import FUNCTION_WORDS

# By script, its languages with a stemmer. The first is that of a text that does not show another.
LANGUAGES: Final[Mapping[str, Sequence[str]]] = {
    "Latin": (
        *("en", "de", "fr", "es", "it", "pt", "nl", "da", "sv", "no", "fi"),
        *("pl", "cs", "ro", "tr", "hu", "et", "lt", "ga", "ca"),
    ),
    "Cyrillic": ("ru",),
    "Greek": ("el",),
    "Arabic": ("ar",),
    "Devanagari": ("hi",),
    "Armenian": ("hy",),
    "Tamil": ("ta",),
}
ALGORITHMS: Final[Mapping[str, str]] = {
    "ar": "arabic",
    "ca": "catalan",
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "it": "italian",
    "lt": "lithuanian",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
# Each of these letters is a sign of the language, as a function word is.
LETTERS: Final[Mapping[str, frozenset[str]]] = {
    language: frozenset(letters)
    for language, letters in {
        "cs": "řěůčšž",
        "da": "æøå",
        "de": "äöüß",
        "es": "ñ",
        "fi": "äö",
        "fr": "èêàçœ",
        "hu": "őű",
        "no": "æøå",
        "pl": "łąęśżźćń",
        "pt": "ãõ",
        "ro": "țșă",
        "sv": "åäö",
        "tr": "ğşı",
        "uk": "ії",
    }.items()
}
# Fewer signs do not tell the language.
SIGNS_MIN: Final = 2
# So many different ones tell it for certain.
SIGNS_ENOUGH: Final = 10

_SCRIPT: Final = regex.compile("|".join(rf"(?P<{name}>\p{{{name}}})" for name in LANGUAGES))


def find_language(words: AbstractSet[str]) -> str:
    """The language of which most words, in lower case, are signs; "" if that is not clear."""
    letters = "".join(word for word in words if not word.isascii())
    best = second = SIGNS_MIN - 1
    language = ""
    for one, spoken in FUNCTION_WORDS.items():
        signs = len(words & spoken)
        if letters and one in LETTERS:
            signs += len(LETTERS[one].intersection(letters))
        if signs >= SIGNS_ENOUGH:
            return one
        if signs > best:
            language, best, second = one, signs, best
        elif signs > second:
            second = signs
    return language if best > second else ""


def is_function_word(word: str, language: str) -> bool:
    """Whether a word in lower case is a function word of a language."""
    return word in FUNCTION_WORDS.get(language, ())


@lru_cache(maxsize=8_192)
def list_languages(word: str) -> Sequence[str]:
    """The languages with a stemmer in the script of a word, the usual one first."""
    found = _SCRIPT.search(word)
    return LANGUAGES[found.lastgroup] if found and found.lastgroup else ()


def stem(word: str, language: str) -> str:
    """The stem of a word in lower case; the word itself if the language has no stemmer."""
    if language not in ALGORITHMS:
        return word
    stemmed: str = _open_stemmer(ALGORITHMS[language]).stemWord(word)
    return stemmed


@lru_cache
def _open_stemmer(algorithm: str) -> Stemmer:
    return Stemmer(algorithm, 0)  # without a cache of its own; its callers have one
