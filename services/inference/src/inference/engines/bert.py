"""BERT sentence encoders on OpenVINO: one graph, compiled for bulk and for express work."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import openvino as ov

from chassis.base.errors import FailedPreconditionError
from inference.domain import (
    Capability,
    EmbeddingProfile,
    InputType,
    ModelCard,
    ModelKind,
    Precision,
)
from inference.engine import Ids
from inference.engines.bert_references import SENTENCE
from inference.engines.cpu import find_cpu_name
from inference.ports import Matrix

COSINE_MIN = 0.9999

# Longer than the sentence, so that the check includes padding and finds a wrong mask.
_CHECK_LENGTH = 64

log = logging.getLogger(__name__)


class BertTokenizer(Protocol):
    """The tokenizer of a model, and the word statistics in its vocabulary."""

    def encode(
        self, texts: Sequence[str], input_type: InputType | None = None
    ) -> Sequence[Sequence[Ids]]:
        """The ids of every text, in windows that begin and end with a special token.

        With `input_type`, what the model wants in front of such a text is included.
        """

    def rarity(self, word: str) -> float:
        """0 for the most common words to 1 for words not in the vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BertModel:
    """A published model; `reference` is its vector of `SENTENCE` in f32.

    `word_vectors`, f32 [batch, length, width] for ids [batch, length], is None if the graph has
    the table of words.
    """

    name: str
    source: str
    licence: str
    description: str
    graph: ov.Model
    tokenizer: BertTokenizer
    width: int
    max_tokens: int
    reference: Matrix
    cosine_floor: float = 0.0
    scripts: frozenset[str] = frozenset()
    word_vectors: Callable[[Ids], Matrix] | None = None


class BertEncoder:
    """An `Engine` with `streams` slots for bulk, one core each, and one express slot.

    The express slot has its own compiled model with one unpinned thread, so the operating system
    runs it at once, even during long batches. The second compiled model shares the weights and
    costs about 10 MB.
    """

    def __init__(self, model: BertModel, precision: Precision, streams: int) -> None:
        core = ov.Core()
        hint = {"INFERENCE_PRECISION_HINT": precision.value}
        bulk = core.compile_model(model.graph, "CPU", {**hint, "NUM_STREAMS": streams})
        single = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
        express = core.compile_model(model.graph, "CPU", {**hint, **single})
        self._requests = [bulk.create_infer_request() for _ in range(streams)]
        self._requests.append(express.create_infer_request())
        self._model = model
        self._precision = precision
        self._device = find_cpu_name()

    @property
    def slots(self) -> int:
        return len(self._requests)

    @property
    def profile(self) -> EmbeddingProfile:
        return EmbeddingProfile(
            name=self._model.name,
            model=self._model.source,
            dimensions=self._model.width,
            max_tokens=self._model.max_tokens,
            pooling="mean",
            normalised=True,
            precision=self._precision,
            cosine_floor=self._model.cosine_floor,
            scripts=self._model.scripts,
        )

    @property
    def card(self) -> ModelCard:
        return ModelCard(
            name=self._model.name,
            kind=ModelKind.EMBED,
            engine="openvino",
            generative=False,
            licence=self._model.licence,
            capabilities=frozenset({Capability.EMBED}),
            context_tokens=self._model.max_tokens,
            description=self._model.description,
            precision=self._precision,
            dimensions=self._model.width,
            device=self._device,
            scripts=self._model.scripts,
        )

    def tokenize(self, texts: Sequence[str], input_type: InputType) -> Sequence[Sequence[Ids]]:
        return self._model.tokenizer.encode(texts, input_type)

    def infer(self, slot: int, ids: Ids) -> Matrix:
        look_up = self._model.word_vectors
        inputs = [ids] if look_up is None else [ids, look_up(ids)]
        # The request reuses its output tensor, so without a copy the next batch would overwrite it.
        vectors: Matrix = self._requests[slot].infer(inputs, share_inputs=True)[0].copy()
        return vectors

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of every text, without what the model adds."""
        return [
            sum(len(ids) - 2 for ids in windows) for windows in self._model.tokenizer.encode(texts)
        ]

    def rarity(self, word: str) -> float:
        """0 for the most common words to 1 for words not in the vocabulary."""
        return self._model.tokenizer.rarity(word)

    def check(self) -> float:
        """The lowest cosine, over all slots, between the vector of `SENTENCE` and the reference.

        Raises:
            FailedPreconditionError: ENGINE_INACCURATE, it is below `COSINE_MIN`. Some combinations
                of CPU and precision compute wrong vectors without an error.
        """
        [[ids]] = self.tokenize([SENTENCE], InputType.PASSAGE)
        padded = np.zeros((2, _CHECK_LENGTH), np.int32)
        padded[:, : len(ids)] = ids
        reference = self._model.reference
        cosine = min(
            float((self.infer(slot, padded) @ reference).min()) for slot in range(self.slots)
        )
        if not cosine >= COSINE_MIN:
            raise FailedPreconditionError(
                "ENGINE_INACCURATE",
                f"{self._model.name} in {self._precision.value}: the check sentence has cosine "
                f"{cosine:.6f} to its reference, below {COSINE_MIN}; run inference on another "
                "machine",
                precision=self._precision.value,
                cosine=cosine,
                min_cosine=COSINE_MIN,
            )
        return cosine


def start(
    model: BertModel, *, streams: int | None = None, precision: Precision | None = None
) -> BertEncoder:
    """Compiles a model and checks the vector of a sentence.

    By default `streams` is the number of available cores, `precision` the CPU's fastest.

    Raises:
        FailedPreconditionError: PRECISION_UNSUPPORTED, or ENGINE_INACCURATE as `check`.
    """
    engine = BertEncoder(model, _choose_precision(precision), streams or _cores())
    cosine = engine.check()
    log.info(
        "engine.ready",
        extra={
            "model": model.name,
            "device": engine.card.device,
            "precision": engine.profile.precision.value,
            "slots": engine.slots,
            "check_cosine": cosine,
        },
    )
    return engine


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
