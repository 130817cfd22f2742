"""Encodes text as BM25 sparse vectors, so that searches also match exact words.

The weight of a term is BM25's saturated frequency in a passage, and its count in a question. The
engine multiplies it by the inverse document frequency, which it counts itself (`Modifier.IDF`). The
dot product of the two vectors is BM25.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Final

import mmh3
from py_rust_stemmers import SnowballStemmer

from chassis.base.errors import InvalidInputError

# Another analyser or other constants require a rebuild of the index.
ANALYSER: Final = "bm25-en-1"

K1: Final = 1.2
B: Final = 0.75
# Terms of a typical passage, without stop words. A constant, because the true mean is unknown when
# the first passage is encoded, and a later change would make old weights wrong.
AVERAGE_TERMS: Final = 80.0
TITLE_WEIGHT: Final = 2

_WORD = re.compile(r"\w+")
_STEMMER = SnowballStemmer("english")
_STOP_WORDS = frozenset(
    """
    a about above after again against all also am an and any are aren as at be because been before
    being below between both but by can cannot could couldn did didn do does doesn doing don down
    during each few for from further had hadn has hasn have haven having he her here hers herself
    him himself his how i if in into is isn it its itself just ll may me might more most must my
    myself no nor not now of off on once only or other our ours ourselves out over own re s same
    shall she should shouldn so some such t than that the their theirs them themselves then there
    these they this those through to too under until up upon us ve very was wasn we were weren what
    when where which while who whom whose why will with within without won would wouldn yet you your
    yours yourself yourselves
    """.split()  # noqa: SIM905 (a list of 130 literals is harder to read)
)


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Distinct 32-bit term ids with one weight each; empty if there are no terms."""

    indices: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        paired = len(self.indices) == len(self.values) == len(set(self.indices))
        if not paired or not all(map(isfinite, self.values)):
            raise InvalidInputError("SPARSE_INVALID", "one finite weight for each distinct term")


def encode_passage(text: str, title: str = "") -> SparseVector:
    """Weights of a passage's terms; those of its document's title count `TITLE_WEIGHT` times."""
    counts = Counter(terms(text))
    for term in terms(title):
        counts[term] += TITLE_WEIGHT
    norm = K1 * (1 - B + B * counts.total() / AVERAGE_TERMS)
    return _vector((term, count * (K1 + 1) / (count + norm)) for term, count in counts.items())


def encode_question(text: str) -> SparseVector:
    """Count of each term of a question; empty if it has only stop words."""
    return _vector((term, float(count)) for term, count in Counter(terms(text)).items())


def terms(text: str) -> list[str]:
    """Stems of the words of a text in order, without stop words."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
    return [_stem(word) for word in words if word not in _STOP_WORDS]


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    stem: str = _STEMMER.stem_word(word)
    return stem


def _vector(weights: Iterable[tuple[str, float]]) -> SparseVector:
    """Terms with equal hashes share one entry, with the greater weight."""
    entries: dict[int, float] = {}
    for term, weight in weights:
        index = mmh3.hash(term, signed=False)
        entries[index] = max(weight, entries.get(index, 0.0))
    return SparseVector(tuple(sorted(entries)), tuple(entries[index] for index in sorted(entries)))
