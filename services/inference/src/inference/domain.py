"""Models, texts, passages and answers, and what makes them valid."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from chassis.base.errors import FieldViolation, InvalidInputError

TEXTS_MAX = 256
TEXT_MAX_CHARS = 8_192
QUESTION_MAX_CHARS = 4_000
PASSAGES_MAX = 64


class Lane(Enum):
    """Who goes first: a person waiting for an answer, or documents soaking in."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose texts these are: tenants share the bulk lane alike, and so do a tenant's documents.

    What a tenant calls for itself counts as one more tenant.
    """

    tenant: str = ""
    document: str = ""


NOBODY = Owner()


class Precision(Enum):
    """Number format an engine computes in; what it hands out is f32 always."""

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
    """What two vectors must share to be comparable.

    `name` is stable and stored beside vectors. `precision` is not part of it: vectors of one
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
    """What a caller may know of a model.

    `generative` is true where the text is composed rather than quoted. `precision` and
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
    """Texts to embed under one profile; answered in the order given."""

    profile: str
    texts: Sequence[str]
    lane: Lane
    owner: Owner = NOBODY

    def __post_init__(self) -> None:
        if not 0 < len(self.texts) <= TEXTS_MAX:
            raise InvalidInputError(
                "TEXT_COUNT",
                f"a request must hold 1 to {TEXTS_MAX} texts, not {len(self.texts)}",
                fields=[FieldViolation("texts", f"1 to {TEXTS_MAX} texts")],
                max_texts=TEXTS_MAX,
                texts=len(self.texts),
            )
        _refuse_bad_lengths("texts", self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A stretch of a document; `index` is what quotes refer to, unique within a question."""

    index: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question and the passages, best first, that may hold its answer.

    `model` names the generator. `max_output_tokens` bounds the answer; None leaves it to the model.
    """

    model: str
    text: str
    passages: Sequence[Passage]
    max_output_tokens: int | None = None

    def __post_init__(self) -> None:
        if not self.text.strip() or len(self.text) > QUESTION_MAX_CHARS:
            raise InvalidInputError(
                "QUESTION_LENGTH",
                f"question must hold 1 to {QUESTION_MAX_CHARS} characters and not only white space",
                fields=[FieldViolation("question", f"1 to {QUESTION_MAX_CHARS} characters")],
                max_chars=QUESTION_MAX_CHARS,
            )
        if len(self.passages) > PASSAGES_MAX:
            raise InvalidInputError(
                "PASSAGE_COUNT",
                f"a question may bring at most {PASSAGES_MAX} passages, not {len(self.passages)}",
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
    """Where the text just sent stands: `passage.text[start:end] == text`, in characters."""

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
    """The end of an answer, sent once and last.

    `confidence` in [0, 1] is the calibrated chance that the passages support an answer; None
    where the model states none.
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
            f"every text must hold 1 to {TEXT_MAX_CHARS} characters",
            fields=[
                FieldViolation(f"{field}[{index}]", f"1 to {TEXT_MAX_CHARS} characters")
                for index in bad
            ],
            max_chars=TEXT_MAX_CHARS,
        )
