"""Answers a question from found passages, with citations that can be checked."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from aquifer.query.v1.passage_events_pb2 import AnswerProduced, CitedVersion
from chassis.base.errors import DataLossError
from query.domain import (
    Answer,
    Citation,
    Delta,
    Finish,
    FinishReason,
    Inquiry,
    Passage,
    Question,
    Quote,
    Started,
    Step,
    Version,
)
from query.usecases.find_passages import FindPassages
from query.usecases.generator import Generator, Prompt
from query.usecases.ports import Answers

PASSAGES_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Ask:
    """Streams an answer: the start, text and citations in order, and the finish.

    The answer and its event are stored before the finish is sent. If the client leaves or something
    fails before that, nothing is stored.
    """

    find: FindPassages
    generator: Generator
    answers: Answers
    new_id: Callable[[], UUID]

    async def run(self, inquiry: Inquiry, trace_id: str) -> AsyncGenerator[Step, None]:
        """Closing the iterator stops the engine.

        Raises:
            UnavailableError, OverloadedError: as `FindPassages`.
            NotFoundError: MODEL_UNKNOWN.
            DataLossError: QUOTE_INVALID, the engine quoted text that does not exist.
        """
        answer_id = self.new_id()
        yield Started(answer_id=answer_id, trace_id=trace_id)
        passages = await self._find_passages(inquiry)
        text: list[str] = []
        citations: list[Citation] = []
        finish: Finish | None = None
        prompt = Prompt(
            question=inquiry.question,
            passages=passages,
            model=inquiry.model,
            max_output_tokens=inquiry.max_output_tokens,
        )
        async with self.generator.generate(prompt) as steps:
            async for step in steps:
                match step:
                    case Delta():
                        text.append(step.text)
                        yield step
                    case Quote():
                        citations.append(cite(passages, step))
                        yield citations[-1]
                    case Finish():
                        finish = step
        assert finish is not None, "the port promises one"
        answer = Answer(
            answer_id=answer_id,
            tenant=inquiry.tenant,
            principal=inquiry.principal,
            question=inquiry.question,
            text="".join(text),
            citations=citations,
            finish=finish,
            trace_id=trace_id,
        )
        await self.answers.keep(answer, list_sources(answer, passages), to_event(answer))
        yield finish

    async def _find_passages(self, inquiry: Inquiry) -> list[Passage]:
        question = Question(
            tenant=inquiry.tenant,
            held=inquiry.held,
            text=inquiry.question,
            collection=inquiry.collection,
            limit=PASSAGES_SHOWN,
        )
        return [hit.passage for hit in await self.find.run(question)]


def cite(passages: Sequence[Passage], quote: Quote) -> Citation:
    """Makes the citation of a quote.

    Raises:
        DataLossError: QUOTE_INVALID, the passage has no such text.
    """
    if not 0 <= quote.passage < len(passages):
        raise DataLossError("QUOTE_INVALID", "the engine quoted a passage that it did not get")
    passage = passages[quote.passage]
    if not 0 <= quote.start < quote.end <= len(passage.text):
        raise DataLossError("QUOTE_INVALID", "the engine quoted text outside of the passage")
    return Citation(
        marker=quote.marker,
        passage=passage,
        quote=passage.text[quote.start : quote.end],
        start=quote.start,
        end=quote.end,
    )


def list_sources(answer: Answer, shown: Sequence[Passage]) -> list[Version]:
    """Versions with text in the answer: the cited ones, for a generative model all it was shown."""
    cited = [citation.passage for citation in answer.citations]
    return _distinct_versions(shown if answer.finish.generative else cited)


def to_event(answer: Answer) -> AnswerProduced:
    """The event for an answer, without text."""
    cited = _distinct_versions([citation.passage for citation in answer.citations])
    return AnswerProduced(
        tenant=answer.tenant,
        answer_id=str(answer.answer_id),
        model=answer.finish.model,
        input_tokens=answer.finish.input_tokens,
        output_tokens=answer.finish.output_tokens,
        cited=[CitedVersion(document=one.document, version=one.number) for one in cited],
        no_answer=answer.finish.reason is FinishReason.NO_ANSWER,
    )


def _distinct_versions(passages: Sequence[Passage]) -> list[Version]:
    return list(dict.fromkeys(passage.version for passage in passages))
