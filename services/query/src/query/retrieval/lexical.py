"""Text to BM25 sparse vectors, so that exact words count beside meaning.

A passage's weight of a term is BM25's saturated frequency, a question's how often it says the term;
the engine multiplies by the inverse document frequency it counts itself (`Modifier.IDF`). The dot
product of the two is BM25.
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

# Stored beside the vectors: another analyser or other constants need a rebuild of the index.
ANALYSER: Final = "bm25-en-1"

K1: Final = 1.2
B: Final = 0.75
# Terms of a typical passage, stop words removed. A constant, because a true mean would have to be
# known before the first passage is encoded, and would make old weights wrong when it moves.
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
    """Term ids (32 bits, without repeats), and one weight for each; empty for no terms."""

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
    """How often each term occurs; empty when the question holds stop words alone."""
    return _vector((term, float(count)) for term, count in Counter(terms(text)).items())


def terms(text: str) -> list[str]:
    """Stems of the words of a text in their order, stop words left out."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
    return [_stem(word) for word in words if word not in _STOP_WORDS]


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    stem: str = _STEMMER.stem_word(word)
    return stem


def _vector(weights: Iterable[tuple[str, float]]) -> SparseVector:
    """Terms whose hashes collide share one entry, with the greater weight."""
    entries: dict[int, float] = {}
    for term, weight in weights:
        index = mmh3.hash(term, signed=False)
        entries[index] = max(weight, entries.get(index, 0.0))
    return SparseVector(tuple(sorted(entries)), tuple(entries[index] for index in sorted(entries)))
