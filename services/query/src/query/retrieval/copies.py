"""Joins hits that say the same, so that copies of a text do not take the places of others."""

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Final

from query.domain import Hit

# Two texts are near copies if they share this part of their groups of words, and every number.
SHARED_MIN: Final = 0.9
GROUP_WORDS: Final = 3
# Texts of so different lengths cannot share so much.
LENGTH_RATIO_MIN: Final = 0.85
# Nor can texts with so few words in common.
SHARED_WORDS_MIN: Final = 0.8
# A text with longer words is written without blanks; its signs are taken as words.
WORD_CHARS_MAX: Final = 20

_PUNCTUATION: Final = ".,;:!?\"'()"
_DIGIT: Final = re.compile(r"\d")


class _Text:
    """What is compared of a text; most texts share few words, so the rest waits."""

    def __init__(self, text: str) -> None:
        folded = text.casefold()
        self.words = [word.strip(_PUNCTUATION) for word in folded.split()]
        if len(folded) > WORD_CHARS_MAX * len(self.words):
            self.words = list(folded)
        self.distinct = frozenset(self.words)

    @cached_property
    def numbered(self) -> Sequence[str]:
        """The words with digits, in order."""
        return [word for word in self.words if _DIGIT.search(word)]

    @cached_property
    def groups(self) -> AbstractSet[tuple[str, ...]]:
        """Each word with those behind it."""
        behind = (self.words[first:] for first in range(GROUP_WORDS))
        return frozenset(zip(*behind, strict=False))

    def resembles(self, other: "_Text") -> bool:
        """Whether one is a copy or a near copy of the other."""
        shorter, longer = sorted((len(self.words), len(other.words)))
        if shorter < LENGTH_RATIO_MIN * longer:
            return False
        distinct = min(len(self.distinct), len(other.distinct))
        if len(self.distinct & other.distinct) < SHARED_WORDS_MIN * distinct:
            return False
        if self.words == other.words:
            return True
        if self.numbered != other.numbered:
            return False
        shared = len(self.groups & other.groups)
        return shared > 0 and shared >= SHARED_MIN * len(self.groups | other.groups)


def join_copies(hits: Sequence[Hit], limit: int) -> Sequence[Hit]:
    """The first `limit` of the hits without copies, each with the copies that it stands for.

    The best of several copies is kept. A text with another number is not a copy.
    """
    kept: list[tuple[_Text, Hit, list[Hit]]] = []
    for hit in hits:
        text = _Text(hit.passage.text)
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
