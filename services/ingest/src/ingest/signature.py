"""Signatures of texts: how much two of them agree estimates how much of the texts is the same.

A text is a set of shingles, each of `SHINGLE_WORDS` words in a row; the similarity of two texts is
the Jaccard index of their sets. A MinHash signature has `HASHES` numbers, of which two texts share
about as large a part as that index. The child imports this module, so keep it small.
"""

import struct
from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice
from typing import Final

import regex  # type: ignore[import-untyped]
from rensa import RMinHash

from ingest.chunking import DENSE

HASHES: Final = 120
SHINGLE_WORDS: Final = 4
_NUMBERS: Final = struct.Struct(f"<{HASHES}I")
SIZE_BYTES: Final = _NUMBERS.size
# Texts that agree in one band are compared: of those with a similarity of 0.8 that are 99.8 %, of
# those with 0.5 a quarter.
BANDS: Final = 20
_BAND_BYTES: Final = SIZE_BYTES // BANDS
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
    return b"" if is_empty else _NUMBERS.pack(*signature.digest())


def estimate_similarity(one: bytes, other: bytes) -> float:
    """The similarity of two texts by their signatures, 0 to 1, as a rule within 0.07."""
    pairs = zip(_NUMBERS.unpack(one), _NUMBERS.unpack(other), strict=True)
    equal: int = sum(left == right for left, right in pairs)
    return equal / HASHES


def list_bands(signature: bytes, scope: str) -> list[int]:
    """`BANDS` numbers of 64 bits; signatures of one scope that agree in a band have one in common.

    Those of two scopes have none in common.
    """
    return [
        _digest(f"{scope} {start}".encode(), signature[start : start + _BAND_BYTES])
        for start in range(0, SIZE_BYTES, _BAND_BYTES)
    ]


def _digest(*parts: bytes) -> int:
    return int.from_bytes(blake2b(b"\x00".join(parts), digest_size=8).digest(), signed=True)


def _group_shingles(words: Iterator[str]) -> Iterator[list[str]]:
    """The shingles of a text, `_AT_ONCE` at a time; a text of fewer words is one shingle."""
    group = list(islice(words, SHINGLE_WORDS))
    if 0 < len(group) < SHINGLE_WORDS:
        yield [" ".join(group)]
    while len(group) >= SHINGLE_WORDS:
        yield list(map(" ".join, zip(*(group[n:] for n in range(SHINGLE_WORDS)), strict=False)))
        group = [*group[1 - SHINGLE_WORDS :], *islice(words, _AT_ONCE)]
