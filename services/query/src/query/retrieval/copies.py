"""Joins hits that say the same, so that copies of a text do not take the places of others."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from query.domain import Hit

# Two texts are near copies if they share this part of their groups of words, and every number.
SHARED_MIN: Final = 0.9
GROUP_WORDS: Final = 3
# Texts of so different lengths cannot share so much.
LENGTH_RATIO_MIN: Final = 0.85
# A text with longer words is written without blanks; its signs are taken as words.
WORD_CHARS_MAX: Final = 20

_DIGIT: Final = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class _Text:
    """What is compared of a text: its words in order, those with digits, and groups of words."""

    words: Sequence[str]
    numbered: Sequence[str]
    groups: frozenset[tuple[str, ...]]

    def resembles(self, other: "_Text") -> bool:
        """Whether one is a copy or a near copy of the other."""
        if self.words == other.words:
            return True
        shorter, longer = sorted((len(self.words), len(other.words)))
        if shorter < LENGTH_RATIO_MIN * longer or self.numbered != other.numbered:
            return False
        shared = len(self.groups & other.groups)
        return shared > 0 and shared >= SHARED_MIN * len(self.groups | other.groups)


def join_copies(hits: Sequence[Hit], limit: int) -> Sequence[Hit]:
    """The first `limit` of the hits without copies, each with the copies that it stands for.

    The best of several copies is kept. A text with another number is not a copy.
    """
    kept: list[tuple[_Text, Hit, list[Hit]]] = []
    for hit in hits:
        text = _read(hit.passage.text)
        for known, _, copies in kept:
            if known.resembles(text):
                copies.append(hit)
                break
        else:
            kept.append((text, hit, []))
    return [
        replace(hit, copies=tuple(copy.passage for copy in copies))
        for _, hit, copies in islice(kept, limit)
    ]


def _read(text: str) -> _Text:
    folded = text.casefold()
    words = [word.strip(".,;:!?\"'()") for word in folded.split()]
    if len(folded) > WORD_CHARS_MAX * len(words):
        words = list(folded)
    numbered = [word for word in words if _DIGIT.search(word)]
    return _Text(words, numbered, frozenset(_list_groups(words)))


def _list_groups(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(words[first:] for first in range(GROUP_WORDS)), strict=False)
