"""Finds the words of a passage that a statement rests on, if the model only named the passage."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from query.answer import Mention, Quote
from query.domain import Passage

# A sentence ends behind its mark, or with its line. Signs of scripts without blanks end one too.
_SENTENCE: Final = re.compile(r"[^\n]+?(?:[.!?](?=\s|$)|[\u3002\uff01\uff1f]|(?=\n)|$)")
_MARKS: Final = re.compile(r"(?:\s*\[[\d\s,;]+\])+\s*\Z")
_WORD: Final = re.compile(r"\w+")
# Words this short are mostly those that every sentence has.
_SHORT_WORD_CHARS: Final = 3


def find_quote(passages: Sequence[Passage], mention: Mention, said: str) -> Quote:
    """The sentence of the passage that has most words of the statement before the mention.

    If none has any, the whole passage is the source. `said` is the answer up to the mention.
    """
    text = passages[mention.passage].text if mention.passage < len(passages) else ""
    statement = _words(_last_sentence(_MARKS.sub("", said)))
    start, end, best = 0, len(text), 0
    for found in _sentences(text):
        shared = len(statement & _words(text[slice(*found)]))
        if shared > best:
            (start, end), best = found, shared
    return Quote(passage=mention.passage, start=start, end=end, marker=mention.marker)


def _last_sentence(text: str) -> str:
    *_, last = [(0, 0), *_sentences(text)]
    return text[slice(*last)]


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where each sentence is, without white space around it."""
    for found in _SENTENCE.finditer(text):
        sentence = found[0].strip()
        if sentence:
            start = found.start() + found[0].index(sentence)
            yield start, start + len(sentence)


def _words(text: str) -> set[str]:
    """The words of a text; numbers of any length, other words only if they are not short."""
    words = (word.casefold() for word in _WORD.findall(text))
    return {
        word
        for word in words
        if len(word) > _SHORT_WORD_CHARS or not word.isascii() or word.isdecimal()
    }
