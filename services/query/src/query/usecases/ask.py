"""Answers a question from found passages, with citations that can be checked."""

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from aquifer.query.v1.passage_events_pb2 import AnswerProduced, CitedVersion
from chassis.base.errors import (
    DataLossError,
    InvalidInputError,
    OverloadedError,
    UnavailableError,
)
from query.answer import (
    Answer,
    Citation,
    Delta,
    Exchange,
    Finish,
    FinishReason,
    Generated,
    Inquiry,
    Mention,
    Quote,
    Started,
    Step,
)
from query.domain import Passage, Question, Version
from query.usecases.answers import Answers
from query.usecases.find_passages import FindPassages
from query.usecases.generator import EXTRACTIVE, REFUSAL, Generator, Prompt
from query.usecases.quoting import find_quote

log = logging.getLogger(__name__)

PASSAGES_SHOWN: Final = 8
TOO_LONG: Final = "PROMPT_TOO_LONG"
# The engine of the default model does not work; inference itself does.
ENGINE_AWAY: Final = {
    "ENGINE_UNREACHABLE",
    "ENGINE_REFUSED",
    "ENGINE_FAILED",
    "ENGINE_OUTPUT",
    "ENGINE_BUSY",
}


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
            InvalidInputError: PROMPT_TOO_LONG, REQUEST_REFUSED.
            DataLossError: QUOTE_INVALID, the engine quoted text that does not exist.
        """
        answer_id = self.new_id()
        yield Started(answer_id=answer_id, trace_id=trace_id)
        passages = await self._find_passages(inquiry)
        text: list[str] = []
        citations: list[Citation] = []
        finish: Finish | None = None
        prompt = Prompt(
            question=inquiry.asked,
            passages=passages,
            model=inquiry.model,
            max_output_tokens=inquiry.max_output_tokens,
            history=inquiry.history,
        )
        async with aclosing(self._generate(prompt)) as steps:
            async for step in steps:
                match step:
                    case Delta():
                        text.append(step.text)
                        yield step
                    case Quote():
                        citations.append(cite(passages, step))
                        yield citations[-1]
                    case Mention():
                        quote = find_quote(passages, step, "".join(text))
                        citations.append(cite(passages, quote))
                        yield citations[-1]
                    case Finish():
                        finish = step
        assert finish is not None, "the port promises one"
        if _is_refusal("".join(text), citations, finish):
            finish = replace(finish, reason=FinishReason.NO_ANSWER)
        answer = Answer(
            answer_id=answer_id,
            tenant=inquiry.tenant,
            principal=inquiry.principal,
            question=inquiry.question,
            text="".join(text),
            citations=citations,
            finish=finish,
            trace_id=trace_id,
            settings=inquiry.settings,
        )
        sources = list_sources(answer, passages, inquiry.history)
        sent = inquiry.context.sent if inquiry.context else None
        await self.answers.keep(answer, sources, to_event(answer), sent)
        yield finish

    async def _generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        """The answer; from fewer passages and less history if the model cannot read so much.

        If the engine of the default model is away, the model that only quotes answers.
        """
        begun = degraded = False
        while True:
            try:
                async with self.generator.generate(prompt) as steps:
                    async for step in steps:
                        begun = True
                        yield replace(step, degraded=degraded) if isinstance(step, Finish) else step
            except InvalidInputError as error:
                shorter = _shorten(prompt)
                if begun or error.reason != TOO_LONG or shorter == prompt:
                    raise
                log.info("prompt.too_long", extra={"passages": len(prompt.passages)})
                prompt = shorter
            except (UnavailableError, OverloadedError) as error:
                if begun or prompt.model or error.reason not in ENGINE_AWAY:
                    raise
                log.warning("engine.away", extra={"reason": error.reason})
                prompt, degraded = replace(prompt, model=EXTRACTIVE), True
            else:
                return

    async def _find_passages(self, inquiry: Inquiry) -> list[Passage]:
        question = Question(
            tenant=inquiry.tenant,
            held=inquiry.held,
            text=inquiry.asked,
            collection=inquiry.collection,
            limit=PASSAGES_SHOWN,
            where=inquiry.where,
            reranker=inquiry.reranker,
        )
        return [hit.passage for hit in (await self.find.run(question)).hits]


def _shorten(prompt: Prompt) -> Prompt:
    """The better half of the passages, at least one, and the later half of the history."""
    kept = max(1, len(prompt.passages) // 2)
    history = prompt.history[(len(prompt.history) + 1) // 2 :]
    return replace(prompt, passages=prompt.passages[:kept], history=history)


def _is_refusal(text: str, citations: Sequence[Citation], finish: Finish) -> bool:
    """Whether a model that writes says, as it was told to, that there is no answer."""
    return finish.generative and not citations and text.strip().startswith(REFUSAL)


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


def list_sources(
    answer: Answer, shown: Sequence[Passage], history: Sequence[Exchange]
) -> list[Version]:
    """Versions with text in the answer: the cited ones, for a generative model all it was shown.

    A model that writes may also repeat what earlier answers took from theirs.
    """
    if not answer.finish.generative:
        return _distinct_versions([citation.passage for citation in answer.citations])
    earlier = [source for exchange in history for source in exchange.sources]
    return list(dict.fromkeys([*_distinct_versions(shown), *earlier]))


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
