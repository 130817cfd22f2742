"""A SentencePiece tokenizer from the pieces of its vocabulary.

The message `ModelProto` of SentencePiece is written by hand: the class in its package needs a newer
protobuf than ours.
"""

import struct
from collections.abc import Sequence

from sentencepiece import SentencePieceProcessor

_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
_UNIGRAM = 1


def open_unigram(pieces: Sequence[tuple[str, float]], unknown_id: int) -> SentencePieceProcessor:
    """A Unigram tokenizer of pieces in the order of their ids, with log probabilities.

    Pieces with log probability 0 are special: no text has them. Blanks of a text count as one, and
    a text begins as if one were before it; otherwise it should be normalised already.
    """
    vocabulary = b"".join(
        _field(1, _piece(text, score, _UNKNOWN if id_ == unknown_id else _kind(score)))
        for id_, (text, score) in enumerate(pieces)
    )
    trainer = _number(3, _UNIGRAM) + _number(40, unknown_id)
    normaliser = _field(1, b"identity")
    model = vocabulary + _field(2, trainer) + _field(3, normaliser)
    return SentencePieceProcessor(model_proto=model)


def _piece(text: str, score: float, kind: int) -> bytes:
    return _field(1, text.encode()) + struct.pack("<Bf", 2 << 3 | 5, score) + _number(3, kind)


def _kind(score: float) -> int:
    return _NORMAL if score else _CONTROL


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    digits = [value & 127]
    while value := value >> 7:
        digits = [*digits, value & 127]
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])
