"""Models and texts, and their validation; `generation` has those of answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from chassis.base.errors import FieldViolation, InvalidInputError

TEXTS_MAX = 256
TEXT_MAX_CHARS = 8_192
QUESTION_MAX_CHARS = 4_000
COUNTED_MAX_CHARS = 2_000_000


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


@dataclass(frozen=True, slots=True)
class Source:
    """The version of a document that chunks are from."""

    tenant: str
    document: str
    version: int


class InputType(Enum):
    """What a text to embed is; some models embed the two differently.

    A question is compared with passages, never with another question.
    """

    QUESTION = "question"
    PASSAGE = "passage"


class Precision(Enum):
    """The number format in which an engine computes; its results are always f32."""

    F32 = "f32"
    BF16 = "bf16"


class ModelKind(Enum):
    """What a model is for first; its capabilities tell what else it can do."""

    EMBED = "embed"
    GENERATE = "generate"
    RERANK = "rerank"


class Capability(Enum):
    """What a model can do; see `inference_service.proto`."""

    EMBED = "embed"
    GENERATE = "generate"
    RERANK = "rerank"
    COUNT_TOKENS = "count_tokens"
    QUOTES = "quotes"
    TOOLS = "tools"
    STRUCTURED_OUTPUT = "structured_output"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingProfile:
    """The properties that two vectors must have in common to be comparable.

    `name` is stable and stored with the vectors. `precision` is not part of it: vectors of one
    profile computed in bf16 and in f32 have a cosine of at least 0.9999 and may be mixed.
    `cosine_floor` is about the lowest cosine of two texts; 0 for many models, high for some.
    `scripts` are those that the model knows, see `scripts.is_known`.
    """

    name: str
    model: str
    dimensions: int
    max_tokens: int
    pooling: str
    normalised: bool
    precision: Precision
    cosine_floor: float = 0.0
    scripts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """The description of a model for callers.

    `generative` is true if the model composes text instead of quoting. `precision` and
    `dimensions` are None for a model that computes no vectors. `revision`, `licence` and `device`,
    what it runs on, are empty, and `context_tokens` 0, where they are not known. `scripts` are
    those that it knows; empty: all, or not known.
    """

    name: str
    kind: ModelKind
    engine: str
    generative: bool
    description: str
    precision: Precision | None = None
    dimensions: int | None = None
    revision: str = ""
    licence: str = ""
    capabilities: frozenset[Capability] = frozenset()
    context_tokens: int = 0
    device: str = ""
    scripts: frozenset[str] = frozenset()


class ModelState(Enum):
    """Whether a model can be used; see `inference_service.proto`."""

    READY = "ready"
    LOADING = "loading"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServer:
    """A server that runs a model; `healthy` if its latest call did not fail.

    `weight` is its share of the calls, 0: only when all others fail.
    """

    address: str
    healthy: bool
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """Texts to embed with one profile; vectors are returned in the same order."""

    profile: str
    texts: Sequence[str]
    lane: Lane
    owner: Owner = NOBODY
    input_type: InputType = InputType.PASSAGE

    def __post_init__(self) -> None:
        _check_count(self.texts)
        _refuse_bad_lengths("texts", self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankRequest:
    """Texts to score by how well they answer a question."""

    model: str
    question: str
    texts: Sequence[str]

    def __post_init__(self) -> None:
        if not self.question.strip() or len(self.question) > QUESTION_MAX_CHARS:
            raise InvalidInputError(
                "QUESTION_LENGTH",
                f"a question must have 1 to {QUESTION_MAX_CHARS} characters, not only white space",
                fields=[FieldViolation("question", f"1 to {QUESTION_MAX_CHARS} characters")],
                max_chars=QUESTION_MAX_CHARS,
            )
        _check_count(self.texts)
        _refuse_bad_lengths("texts", self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRequest:
    """Texts whose tokens are counted."""

    model: str
    texts: Sequence[str]

    def __post_init__(self) -> None:
        _check_count(self.texts)
        if not all(self.texts) or sum(map(len, self.texts)) > COUNTED_MAX_CHARS:
            raise InvalidInputError(
                "TEXT_LENGTH",
                f"texts must not be empty and have at most {COUNTED_MAX_CHARS} characters in all",
                fields=[FieldViolation("texts", f"at most {COUNTED_MAX_CHARS} characters in all")],
                max_chars=COUNTED_MAX_CHARS,
            )


def _check_count(texts: Sequence[str]) -> None:
    if not 0 < len(texts) <= TEXTS_MAX:
        raise InvalidInputError(
            "TEXT_COUNT",
            f"a request must have 1 to {TEXTS_MAX} texts, not {len(texts)}",
            fields=[FieldViolation("texts", f"1 to {TEXTS_MAX} texts")],
            max_texts=TEXTS_MAX,
            texts=len(texts),
        )


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
