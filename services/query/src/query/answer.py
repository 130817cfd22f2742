"""Answers: what is asked, the steps as they are streamed, and the whole as it is stored."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final
from uuid import UUID

from chassis.base.errors import FieldViolation, InvalidInputError
from chassis.base.filters import Expression
from chassis.base.labels import Held
from query.domain import Passage, Version, check_question
from query.guardrail import Verdict
from query.names import name_collections

OUTPUT_TOKENS_MAX: Final = 32_768
OUTPUT_TOKENS_DEFAULT: Final = 512
FEEDBACK_MAX_CHARS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """An earlier question of a conversation and its answer, whose words are from `sources`."""

    question: str
    answer: str
    sources: tuple[Version, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Where a question and its answer are stored as messages; `request_id` may be empty."""

    conversation_id: UUID
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the conversation of a question adds to it.

    `asked` is the question that search and model get, with words of earlier questions if it leans
    on them. `history` is what the model reads before it, oldest first.
    """

    sent: Sent
    asked: str
    history: Sequence[Exchange]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a question was asked with, as it was given.

    Empty `model`: inference's default. `max_output_tokens` is 0 and everything else empty for
    answers that were stored without. `reranker` is None if none ordered the passages again.
    """

    collection: str = ""
    collections: Sequence[str] = ()
    documents: Sequence[str] = ()
    filter: str = ""
    model: str = ""
    max_output_tokens: int = 0
    reranker: str | None = None
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """A question to be answered, see `Question`; empty `model`: inference's default.

    `filter` is the text that says `where`. `documents` are attached to the conversation: they are
    searched besides the collections, or alone if there are none. `context` is None for a question
    outside of conversations. `prompt` is a resource name, empty for the built-in one.
    """

    tenant: str
    held: Held
    principal: str
    question: str
    collection: str = ""
    collections: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    model: str = ""
    max_output_tokens: int
    filter: str = ""
    where: Expression | None = None
    reranker: str | None = None
    context: Context | None = None
    prompt: str = ""
    as_of: datetime | None = None

    def __post_init__(self) -> None:
        check_question(self.question)
        name_collections(self.collection, self.collections)
        if not 0 < self.max_output_tokens <= OUTPUT_TOKENS_MAX:
            raise InvalidInputError(
                "OUTPUT_TOKENS_RANGE",
                f"max_output_tokens must be in 1..{OUTPUT_TOKENS_MAX}",
                fields=[FieldViolation("max_output_tokens", f"1 to {OUTPUT_TOKENS_MAX}")],
                max_output_tokens=OUTPUT_TOKENS_MAX,
            )

    def replace_question(self, text: str) -> "Inquiry":
        """The same with another question, also within what search and model get."""
        if text == self.question:
            return self
        context = self.context and replace(
            self.context, asked=self.context.asked.replace(self.question, text, 1)
        )
        return replace(self, question=text, context=context)

    @property
    def settings(self) -> Settings:
        """What it is asked with."""
        return Settings(
            collection=self.collection,
            collections=self.collections,
            documents=self.documents,
            filter=self.filter,
            model=self.model,
            max_output_tokens=self.max_output_tokens,
            reranker=self.reranker,
            as_of=self.as_of,
        )

    @property
    def asked(self) -> str:
        """The question that search and model get."""
        return self.context.asked if self.context else self.question

    @property
    def history(self) -> Sequence[Exchange]:
        """What the model reads before the question, oldest first."""
        return self.context.history if self.context else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """Text to append to the answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The source of the text just sent: characters `start` to `end` of passage `passage`."""

    passage: int
    start: int
    end: int
    marker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """The text just sent names passage `passage` as its source, without quoting it."""

    passage: int
    marker: str


class FinishReason(Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    NO_ANSWER = "no_answer"
    FILTERED = "filtered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The end of an answer, with its number of tokens.

    `generative`: the model writes text instead of only quoting. `confidence` is in 0..1; None if
    the model does not tell. `degraded`: the default model was away, and another one answered.
    `prompt` is the resource name of the version that was used. `verdicts` are those of guardrails.
    """

    reason: FinishReason
    input_tokens: int
    output_tokens: int
    model: str
    generative: bool
    confidence: float | None
    degraded: bool = False
    prompt: str = ""
    verdicts: tuple[Verdict, ...] = ()


Generated = Delta | Quote | Mention | Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A verbatim quote: `passage.text[start:end] == quote`, until its document is deleted.

    `score` is that of the search; None for an answer that was stored without.
    """

    marker: str
    passage: Passage
    quote: str
    start: int
    end: int
    score: float | None = None

    @property
    def page(self) -> int:
        """The page on which the quote starts; 0 if the format has no pages."""
        return self.passage.page_at(self.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first step of an answer."""

    answer_id: UUID
    trace_id: str


Step = Started | Delta | Citation | Finish


class Rating(Enum):
    """Whether an answer is good."""

    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What the principal that asked thinks of an answer; `given_at` is None before it is stored."""

    rating: Rating
    reason: str = ""
    given_at: datetime | None = None

    def __post_init__(self) -> None:
        if len(self.reason) > FEEDBACK_MAX_CHARS or "\x00" in self.reason:
            raise feedback_range_error(
                "feedback.reason", f"at most {FEEDBACK_MAX_CHARS} characters, no NUL"
            )


def feedback_range_error(field: str, wanted: str) -> InvalidInputError:
    """FEEDBACK_RANGE: a field of feedback is out of range."""
    return InvalidInputError(
        "FEEDBACK_RANGE", f"{field} must be {wanted}", fields=[FieldViolation(field, wanted)]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer as it was given; text and quotes are removed when a cited document is deleted.

    So is the reason of the feedback, which may repeat them.
    """

    answer_id: UUID
    tenant: str
    principal: str
    question: str
    text: str
    citations: Sequence[Citation]
    finish: Finish
    trace_id: str
    settings: Settings = Settings()
    feedback: Feedback | None = None

    def redact(self, deleted: Collection[Version]) -> "Answer":
        """Removes the answer's text and the quotes from these versions."""
        if not deleted:
            return self
        citations = [
            replace(citation, quote="", passage=citation.passage.redact())
            if citation.passage.version in deleted
            else citation
            for citation in self.citations
        ]
        feedback = replace(self.feedback, reason="") if self.feedback else None
        return replace(self, text="", citations=citations, feedback=feedback)
