"""Models, texts, passages and answers, and their validation."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from chassis.base.errors import FieldViolation, InvalidInputError

TEXTS_MAX = 256
TEXT_MAX_CHARS = 8_192
QUESTION_MAX_CHARS = 4_000
PASSAGES_MAX = 64


class Lane(Enum):
    """The priority of work: someone waits for the answer, or documents are indexed."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of texts: tenants share the bulk lane equally, and so do the documents of a tenant.

    The interactive documents of a tenant count as one more tenant, and so do its calls to `Embed`.
    """

    tenant: str = ""
    document: str = ""


NOBODY = Owner()


class Precision(Enum):
    """The number format in which an engine computes; its results are always f32."""

    F32 = "f32"
    BF16 = "bf16"


class ModelKind(Enum):
    EMBED = "embed"
    GENERATE = "generate"


class FinishReason(Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingProfile:
    """The properties that two vectors must have in common to be comparable.

    `name` is stable and stored with the vectors. `precision` is not part of it: vectors of one
    profile computed in bf16 and in f32 have a cosine of at least 0.9999 and may be mixed.
    """

    name: str
    model: str
    dimensions: int
    max_tokens: int
    pooling: str
    normalised: bool
    precision: Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """The description of a model for callers.

    `generative` is true if the model composes text instead of quoting. `precision` and
    `dimensions` are None for a model that computes no vectors.
    """

    name: str
    kind: ModelKind
    engine: str
    generative: bool
    description: str
    precision: Precision | None = None
    dimensions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """Texts to embed with one profile; vectors are returned in the same order."""

    profile: str
    texts: Sequence[str]
    lane: Lane
    owner: Owner = NOBODY

    def __post_init__(self) -> None:
        if not 0 < len(self.texts) <= TEXTS_MAX:
            raise InvalidInputError(
                "TEXT_COUNT",
                f"a request must have 1 to {TEXTS_MAX} texts, not {len(self.texts)}",
                fields=[FieldViolation("texts", f"1 to {TEXTS_MAX} texts")],
                max_texts=TEXTS_MAX,
                texts=len(self.texts),
            )
        _refuse_bad_lengths("texts", self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A part of a document; quotes refer to its `index`, unique within a question."""

    index: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, and the passages that may contain its answer, best first.

    `model` names the generator. `max_output_tokens` limits the answer; None: no limit is given.
    """

    model: str
    text: str
    passages: Sequence[Passage]
    max_output_tokens: int | None = None

    def __post_init__(self) -> None:
        if not self.text.strip() or len(self.text) > QUESTION_MAX_CHARS:
            raise InvalidInputError(
                "QUESTION_LENGTH",
                f"a question must have 1 to {QUESTION_MAX_CHARS} characters, not only white space",
                fields=[FieldViolation("question", f"1 to {QUESTION_MAX_CHARS} characters")],
                max_chars=QUESTION_MAX_CHARS,
            )
        if len(self.passages) > PASSAGES_MAX:
            raise InvalidInputError(
                "PASSAGE_COUNT",
                f"a question may have at most {PASSAGES_MAX} passages, not {len(self.passages)}",
                fields=[FieldViolation("passages", f"at most {PASSAGES_MAX} passages")],
                max_passages=PASSAGES_MAX,
                passages=len(self.passages),
            )
        if len({passage.index for passage in self.passages}) < len(self.passages):
            raise InvalidInputError(
                "PASSAGE_INDEX",
                "every passage of a question must have its own index",
                fields=[FieldViolation("passages.index", "must be unique")],
            )
        if self.max_output_tokens is not None and self.max_output_tokens < 1:
            raise InvalidInputError(
                "OUTPUT_TOKENS_RANGE",
                "max_output_tokens must be positive",
                fields=[FieldViolation("max_output_tokens", "at least 1")],
                max_output_tokens=self.max_output_tokens,
            )
        _refuse_bad_lengths("passages", [passage.text for passage in self.passages])


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDelta:
    """The next piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The source of the text just sent, in characters: `passage.text[start:end] == text`."""

    passage: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens read and written, counted by the model's own tokenizer."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The end of an answer, sent once as the last item.

    `confidence` in [0, 1] is the calibrated probability that the passages support an answer;
    None if the model gives none.
    """

    reason: FinishReason
    usage: Usage
    confidence: float | None = None


Generated = GenerationDelta | Quote | Finish


def _refuse_bad_lengths(field: str, texts: Sequence[str]) -> None:
    bad = [index for index, text in enumerate(texts) if not 0 < len(text) <= TEXT_MAX_CHARS]
    if bad:
        raise InvalidInputError(
            "TEXT_LENGTH",
            f"every text must have 1 to {TEXT_MAX_CHARS} characters",
            fields=[
                FieldViolation(f"{field}[{index}]", f"1 to {TEXT_MAX_CHARS} characters")
                for index in bad
            ],
            max_chars=TEXT_MAX_CHARS,
        )
