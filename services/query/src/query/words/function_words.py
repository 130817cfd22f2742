"""Function words of languages: they tell a language, and carry no meaning in a question."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

import regex  # type: ignore[import-untyped]

_LANGUAGE: Final = regex.compile(r"^(\w\w): ((?:.|\n(?=  ))+)", regex.MULTILINE)


def _read() -> Mapping[str, frozenset[str]]:
    text = files("query.words").joinpath("function_words.txt").read_text(encoding="utf-8")
    return {language: frozenset(words.split()) for language, words in _LANGUAGE.findall(text)}


# By the ISO 639-1 code of the language.
FUNCTION_WORDS: Final = _read()
