"""Asks each question, and measures the answer by what it cites."""

import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aquifer.query.v1.query_service_pb2 import (
    AnswerFinished,
    AskRequest,
    Citation,
    FinishReason,
)
from aquifer_cli import ask as asking
from aquifer_cli import names
from aquifer_cli.client import Client
from aquifer_cli.evaluation.calls import Failure, ask_each
from aquifer_cli.evaluation.figures import Measured
from aquifer_cli.evaluation.files import Question
from aquifer_cli.evaluation.intervals import Judged

# As many as people read.
CITATIONS_READ: Final = 5
FIGURES: Final = (
    "answer_in_passages",
    "answer_in_quotes",
    "citations_valid",
    "no_answer",
    "no_answer_if_answerable",
    "no_answer_if_unanswerable",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One answer as it is measured.

    Attributes:
        figures: 0 or 1 for each figure of `FIGURES` that the question counts for.
        answerable: as the file tells.
        confidence: as the model tells; None if it does not.
        finish: why the answer ended, such as `STOP`.
        model: the model that produced it.
        cited: the document ids of its citations, in text order.
        invalid: citations whose offsets do not give their quote.
        degraded: whether another model than the default one has answered.
    """

    figures: Mapping[str, float]
    answerable: bool
    confidence: float | None
    finish: str
    model: str
    cited: Sequence[str]
    invalid: int
    degraded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers by question id, and what failed."""

    answered: Mapping[str, Answered]
    failures: Sequence[Failure]

    def count_citations(self) -> int:
        """All citations."""
        return sum(len(one.cited) for one in self.answered.values())

    def count_invalid(self) -> int:
        """Citations whose offsets do not give their quote."""
        return sum(one.invalid for one in self.answered.values())

    def count_foreign(self, known: Collection[str]) -> int:
        """Citations of documents of other files in the collection."""
        return sum(
            document not in known for one in self.answered.values() for document in one.cited
        )


async def answer(
    client: Client,
    questions: Sequence[Question],
    *,
    collection: str,
    model: str,
    done: Callable[[], None],
) -> Answers:
    """Asks each question; `done` is called after each.

    Raises:
        CommandError: the key is not accepted, or every question has failed.
    """

    async def ask(question: Question) -> Answered:
        request = AskRequest(question=question.text, collections=[collection], model=model)
        citations: list[Citation] = []
        finished = AnswerFinished()
        async for step in asking.ask(client, request):
            match step.WhichOneof("step"):
                case "citation":
                    citations.append(step.citation)
                case "finished":
                    finished = step.finished
        return judge(question, citations, finished)

    answered, failures = await ask_each(questions, ask, done=done)
    return Answers(answered=answered, failures=failures)


def judge(question: Question, citations: Sequence[Citation], finished: AnswerFinished) -> Answered:
    """Measures one answer."""
    invalid = sum(not _is_valid(citation) for citation in citations)
    finish = FinishReason.Name(finished.reason).removeprefix("FINISH_REASON_")
    silent = float(finish == "NO_ANSWER")
    figures = {"no_answer": silent}
    if citations:
        figures["citations_valid"] = float(not invalid)
    if question.answerable:
        read = citations[:CITATIONS_READ]
        passages = [citation.passage.text for citation in read]
        figures["answer_in_passages"] = _occurs(question.answers, passages)
        figures["answer_in_quotes"] = _occurs(question.answers, [one.quote for one in read])
        figures["no_answer_if_answerable"] = silent
    else:
        figures["no_answer_if_unanswerable"] = silent
    return Answered(
        figures=figures,
        answerable=question.answerable,
        confidence=finished.confidence if finished.HasField("confidence") else None,
        finish=finish,
        model=finished.model,
        cited=[names.document_id(citation.passage.document) for citation in citations],
        invalid=invalid,
        degraded=finished.degraded,
    )


def measure(figures: Mapping[str, Mapping[str, float]], judged: Mapping[str, Judged]) -> Measured:
    """The figures of answers.

    Args:
        figures: of each question, by its id.
        judged: the confidence of each answer that has one, by question id.
    """
    means = {
        name: {question: row[name] for question, row in figures.items() if name in row}
        for name in FIGURES
    }
    return Measured(means=means, judged=judged, has_auroc=True)


def _is_valid(citation: Citation) -> bool:
    text = citation.passage.text
    start, end = citation.quote_start, citation.quote_end
    return 0 <= start < end <= len(text) and text[start:end] == citation.quote


def _occurs(answers: Sequence[str], texts: Sequence[str]) -> float:
    folded = [_fold(text) for text in texts]
    return float(any(_fold(answer) in text for answer in answers for text in folded))


def _fold(text: str) -> str:
    """Text as people compare it: without case, and each run of white space as one space."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
