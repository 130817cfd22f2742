"""Encodes text as BM25 sparse vectors, so that searches also match exact words.

The weight of a term is BM25's saturated frequency in a passage, and its weight in a question. The
engine multiplies it by the inverse document frequency, which it counts itself (`Modifier.IDF`). The
dot product of the two vectors is BM25.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Final

from chassis.base.errors import InvalidInputError
from query.words.terms import PassageTerms, make_id, read_passage, read_question

# The version of the terms and weights of a passage. With a later one the points of all passages are
# written again, see `RebuildVectors`.
ANALYSER: Final = 3

K1: Final = 1.2
B: Final = 0.75
# Words of a typical passage, without function words. A constant, because the true mean is unknown
# when the first passage is encoded, and a later change would make old weights wrong.
AVERAGE_WORDS: Final = 80.0
TITLE_WEIGHT: Final = 2


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Distinct 32-bit term ids with one weight each; empty if there are no terms."""

    indices: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        paired = len(self.indices) == len(self.values) == len(set(self.indices))
        if not paired or not all(map(isfinite, self.values)):
            raise InvalidInputError("SPARSE_INVALID", "one finite weight for each distinct term")


@dataclass(frozen=True, slots=True)
class Spelling:
    """What to search for instead of a word if no point has one of the terms in `word`."""

    word: tuple[int, ...]
    similar: SparseVector

    def replace(self, vector: SparseVector) -> SparseVector:
        """Adds the similar words to a question."""
        entries = dict(zip(self.similar.indices, self.similar.values, strict=True))
        entries |= dict(zip(vector.indices, vector.values, strict=True))
        return SparseVector(tuple(entries), tuple(entries.values()))


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a question; an empty `vector` finds nothing."""

    vector: SparseVector
    spellings: Sequence[Spelling] = ()


def encode_passage(text: str, title: str = "") -> SparseVector:
    """Weights of a passage's terms; those of its document's title count `TITLE_WEIGHT` times."""
    read = read_passage(text)
    counts, words = read.counts, read.words
    if title:
        titled = _read_title(title)
        for _ in range(TITLE_WEIGHT):
            counts.update(titled.counts)
        words += TITLE_WEIGHT * titled.words
    norm = K1 * (1 - B + B * words / AVERAGE_WORDS)
    weights = {count: count * (K1 + 1) / (count + norm) for count in set(counts.values())}
    indices = tuple(sorted(counts))
    return SparseVector(indices, tuple(weights[counts[index]] for index in indices))


@lru_cache(maxsize=1_024)
def _read_title(title: str) -> PassageTerms:
    """The terms of a title, which all passages of a document have."""
    return read_passage(title)


def encode_question(text: str) -> SparseVector:
    """Weights of a question's terms, without what stands for unknown words."""
    return read_words(text).vector


def read_words(text: str) -> Words:
    """The words of a question."""
    read = read_question(text)
    return Words(
        _vector(read.weights),
        [Spelling(tuple(map(make_id, one.word)), _vector(one.similar)) for one in read.spellings],
    )


def _vector(weights: Mapping[str, float]) -> SparseVector:
    by_id = sorted({make_id(term): weight for term, weight in weights.items()}.items())
    return SparseVector(tuple(index for index, _ in by_id), tuple(weight for _, weight in by_id))
