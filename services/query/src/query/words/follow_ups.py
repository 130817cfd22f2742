"""Completes a question that leans on earlier ones with their words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import regex  # type: ignore[import-untyped]

from query.words.languages import find_language, is_function_word

# A question with fewer words of its own can hardly be searched.
OWN_WORDS_MIN: Final = 2
ADDED_WORDS_MAX: Final = 12
ADDED_MAX_CHARS: Final = 400

# Words that stand for something said before, by the language of the question. Words that mostly do
# not, such as articles, are left out even where they sometimes do.
_REFERRING: Final[Mapping[str, frozenset[str]]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "it its they them their theirs this these those he she him his her hers there ones",
        "de": "er es ihn ihm ihr ihre ihren ihrem ihrer seine seinen seinem seiner diese dieser"
        " dieses diesem diesen davon dafür damit dazu daran darin dort dessen deren",
        "fr": "il elle ils elles celui celle ceux celles ceci cela ça lui leur leurs ce cette ces",
        "es": "él ella ello ellos ellas este esta estos estas eso ese esa esos esas esto allí",
        "it": "esso essa essi esse questo questa questi queste quello quella quelli quelle lui lei",
        "pt": "ele ela eles elas isso isto este esta esse essa deles delas dele dela nele nela",
        "nl": "hij zij deze dit hen hun daarvan daarmee daar",
        "ru": "он она оно они его её ее их ему ей им этот эта это эти тот та те там",
    }.items()
}
# A question that begins with one goes on with what was said before.
_CONTINUING_WORDS: Final = (
    "and or but also then so und oder aber auch et ou mais y o pero e ma mas en of maar и но"
)
_CONTINUING: Final = frozenset(_CONTINUING_WORDS.split())
_WORD: Final = regex.compile(r"[\w’']+(?:[-.]\w+)*")
_UNSPACED: Final = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]")
# The same in scripts without blanks between words.
_REFERRING_SIGNS: Final = regex.compile("[它他她这那]|それ|これ|あれ|その|この|彼")


@dataclass(frozen=True, slots=True)
class _Read:
    """The words of a question that carry meaning, as written, and whether it leans on others."""

    own: Sequence[str]
    leans: bool


def complete_question(question: str, earlier: Sequence[str]) -> str:
    """The question, with words of earlier questions in parentheses if it leans on them.

    `earlier` are the questions before it, oldest first; each may itself lean on those before it. At
    most `ADDED_WORDS_MAX` words and `ADDED_MAX_CHARS` characters are added.
    """
    usual = find_language(_fold(_split(" ".join([*earlier, question]))))
    known: list[str] = []
    for one in earlier:
        read = _read(one, usual)
        known = _join(read.own, known) if read.leans else _join(read.own, [])
    asked = _read(question, usual)
    if not asked.leans:
        return question
    added = _leave_out(known, asked.own)
    text = " ".join(added)[:ADDED_MAX_CHARS]
    return f"{question.rstrip()} ({text})" if text else question


def _read(question: str, usual: str) -> _Read:
    """`usual` is the language of a question that does not show its own."""
    words = _split(question)
    folded = _fold(words)
    language = find_language(folded) or usual or "en"
    referring = _REFERRING.get(language, frozenset())
    own = [
        word
        for word in words
        if not is_function_word(word.casefold(), language) and word.casefold() not in referring
    ]
    leans = (
        not words
        or words[0].casefold() in _CONTINUING
        or not referring.isdisjoint(folded)
        or _REFERRING_SIGNS.search(question) is not None
        or _weigh(own) < OWN_WORDS_MIN
    )
    return _Read(own, leans)


def _join(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """Words of a question and those that it leans on, each once; the latest are kept."""
    once = list({word.casefold(): word for word in words}.values())
    return [*once, *_leave_out(known, once)][:ADDED_WORDS_MAX]


def _leave_out(words: Sequence[str], others: Sequence[str]) -> list[str]:
    folded = _fold(others)
    return [word for word in words if word.casefold() not in folded]


def _weigh(words: Sequence[str]) -> int:
    """The number of words; a run of a script without blanks counts as half its signs."""
    return sum(
        max(1, len(word) // 2) if _UNSPACED.search(word) else 1 for word in dict.fromkeys(words)
    )


def _split(question: str) -> list[str]:
    words: list[str] = _WORD.findall(question)
    return words


def _fold(words: Sequence[str]) -> set[str]:
    return {word.casefold() for word in words}
