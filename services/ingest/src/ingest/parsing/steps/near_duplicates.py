"""Makes the signature of a text, by which almost the same texts are found; changes nothing."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

import regex  # type: ignore[import-untyped]
from rensa import RMinHash

from ingest.chunking import DENSE
from ingest.signature import HASHES, NUMBERS

SHINGLE_WORDS: Final = 4
_SEED: Final = 1
# Shingles made at a time, so that a long text needs no more memory than this.
_AT_ONCE: Final = 16_384
# A word; in scripts without blanks between words every letter counts as one.
_WORD = regex.compile(rf"(?V1)[\w&&[{DENSE}]]|[\w--[{DENSE}]]+")


def sign(text: str) -> bytes:
    """The signature of a text: `HASHES` numbers of 32 bits, little-endian; empty without words.

    Upper and lower case, white space and punctuation make no difference.
    """
    words = (found[0] for found in _WORD.finditer(text.casefold()))
    signature, is_empty = RMinHash(num_perm=HASHES, seed=_SEED), True
    for shingles in _group_shingles(words):
        signature.update(shingles)
        is_empty = False
    return b"" if is_empty else NUMBERS.pack(*signature.digest())


def _group_shingles(words: Iterator[str]) -> Iterator[list[str]]:
    """The shingles of a text, `_AT_ONCE` at a time; a text of fewer words is one shingle."""
    group = list(islice(words, SHINGLE_WORDS))
    if 0 < len(group) < SHINGLE_WORDS:
        yield [" ".join(group)]
    while len(group) >= SHINGLE_WORDS:
        yield list(map(" ".join, zip(*(group[n:] for n in range(SHINGLE_WORDS)), strict=False)))
        group = [*group[1 - SHINGLE_WORDS :], *islice(words, _AT_ONCE)]
