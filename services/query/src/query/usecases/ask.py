"""Answers a question from found passages, with citations that can be checked."""

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
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
from query.domain import Hit, Passage, Question, Version
from query.guardrail import Stage, Verdict
from query.prompt import read_reference
from query.usecases.answers import Answers
from query.usecases.attached import find_scope
from query.usecases.find_passages import FindPassages
from query.usecases.generator import EXTRACTIVE, REFUSAL, Generator, Prompt, make_instructions
from query.usecases.guarded_output import GuardedOutput, Part
from query.usecases.guardrails import Guardrails
from query.usecases.prompts import Prompts
from query.usecases.quoting import find_quote
from query.usecases.token_budget import TokenCounter, halve, shorten

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
    prompts: Prompts
    guardrails: Guardrails
    tokens: TokenCounter
    new_id: Callable[[], UUID]
    clock: Callable[[], datetime]

    async def run(self, inquiry: Inquiry, trace_id: str) -> AsyncGenerator[Step, None]:
        """Closing the iterator stops the engine.

        Raises:
            InvalidInputError: GUARDRAIL_BLOCKED.
            UnavailableError: GUARDRAIL_FAILED.
            Others as `answer`.
        """
        question, verdicts = await self.guardrails.check_question(inquiry.question)
        checked = inquiry.replace_question(question)
        async with aclosing(self.answer(checked, verdicts, trace_id)) as steps:
            async for step in steps:
                yield step

    async def answer(
        self, inquiry: Inquiry, checked: Sequence[Verdict], trace_id: str
    ) -> AsyncGenerator[Step, None]:
        """The answer to a question whose guardrails have ended as `checked`.

        Raises:
            UnavailableError, OverloadedError: as `FindPassages`; GUARDRAIL_FAILED.
            NotFoundError: MODEL_UNKNOWN, PROMPT_UNKNOWN.
            InvalidInputError: PROMPT_TOO_LONG, REQUEST_REFUSED.
            DataLossError: QUOTE_INVALID, the engine quoted text that does not exist.
        """
        answer_id = self.new_id()
        yield Started(answer_id=answer_id, trace_id=trace_id)
        used = await self.prompts.find(inquiry.tenant, read_reference(inquiry.prompt))
        hits, on_passages = await self.guardrails.choose_hits(await self._find_hits(inquiry))
        prompt = Prompt(
            instructions=make_instructions(used.content.template, self.clock()),
            question=inquiry.asked,
            passages=[hit.passage for hit in hits],
            model=inquiry.model,
            max_output_tokens=inquiry.max_output_tokens,
            history=inquiry.history,
        )
        parts: list[Part] = []
        finish: Finish | None = None
        async with aclosing(self._write(prompt, hits)) as steps:
            async for step in steps:
                if isinstance(step, Finish):
                    finish = step
                else:
                    parts.append(step)
                    yield step
        assert finish is not None, "the port promises one"
        verdicts = (*checked, *on_passages, *finish.verdicts)
        answer = make_answer(
            inquiry,
            answer_id,
            trace_id,
            parts,
            replace(finish, prompt=used.name, verdicts=verdicts),
        )
        sources = list_sources(answer, prompt.passages, inquiry.history)
        sent = inquiry.context.sent if inquiry.context else None
        await self.answers.keep(answer, sources, to_event(answer), sent)
        yield answer.finish

    async def _write(
        self, prompt: Prompt, hits: Sequence[Hit]
    ) -> AsyncGenerator[Part | Finish, None]:
        """What may be sent of the answer, and its finish with the verdicts on it.

        The rest of an answer that is stopped is read, for its cost.
        """
        output = GuardedOutput(self.guardrails.list_at(Stage.OUTPUT))
        said: list[str] = []
        async with aclosing(self._generate(prompt)) as steps:
            async for step in steps:
                match step:
                    case Delta():
                        said.append(step.text)
                        ready = await output.add(step)
                    case Quote():
                        ready = await output.add(cite(hits, step))
                    case Mention():
                        quote = find_quote(prompt.passages, step, "".join(said))
                        ready = await output.add(cite(hits, quote))
                    case Finish():
                        ready, verdicts = await output.end()
                        reason = FinishReason.FILTERED if output.blocked else step.reason
                        finish = replace(step, reason=reason, verdicts=tuple(verdicts))
                for part in ready:
                    yield part
        yield finish

    async def _generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        """The answer; from fewer passages and less history if the model cannot read so much.

        If the engine of the default model is away, the model that only quotes answers.
        """
        begun = counted = degraded = False
        while True:
            try:
                async with self.generator.generate(prompt) as steps:
                    async for step in steps:
                        begun = True
                        yield replace(step, degraded=degraded) if isinstance(step, Finish) else step
            except InvalidInputError as error:
                if begun or error.reason != TOO_LONG:
                    raise
                # The engine adds tokens of its own, so the count may be too low; once it was.
                shorter = halve(prompt) if counted else await shorten(prompt, self.tokens)
                if shorter == prompt:
                    raise
                log.info("prompt.too_long", extra={"passages": len(prompt.passages)})
                prompt, counted = shorter, True
            except (UnavailableError, OverloadedError) as error:
                if begun or prompt.model or error.reason not in ENGINE_AWAY:
                    raise
                log.warning("engine.away", extra={"reason": error.reason})
                prompt, degraded = replace(prompt, model=EXTRACTIVE), True
            else:
                return

    async def _find_hits(self, inquiry: Inquiry) -> Sequence[Hit]:
        scope = find_scope(inquiry)
        question = Question(
            tenant=inquiry.tenant,
            held=inquiry.held,
            text=inquiry.asked,
            collections=scope.collections,
            limit=PASSAGES_SHOWN,
            where=scope.where,
            reranker=inquiry.reranker,
            as_of=inquiry.as_of,
        )
        return (await self.find.run(question)).hits


def _is_refusal(text: str, citations: Sequence[Citation], finish: Finish) -> bool:
    """Whether a model that writes says, as it was told to, that there is no answer."""
    return finish.generative and not citations and text.strip().startswith(REFUSAL)


def make_answer(
    inquiry: Inquiry, answer_id: UUID, trace_id: str, parts: Sequence[Part], finish: Finish
) -> Answer:
    """The answer as it was sent; one that says that there is none has that reason."""
    text = "".join(part.text for part in parts if isinstance(part, Delta))
    citations = [part for part in parts if isinstance(part, Citation)]
    if finish.reason is not FinishReason.FILTERED and _is_refusal(text, citations, finish):
        finish = replace(finish, reason=FinishReason.NO_ANSWER)
    return Answer(
        answer_id=answer_id,
        tenant=inquiry.tenant,
        principal=inquiry.principal,
        question=inquiry.question,
        text=text,
        citations=citations,
        finish=finish,
        trace_id=trace_id,
        settings=inquiry.settings,
    )


def cite(hits: Sequence[Hit], quote: Quote) -> Citation:
    """Makes the citation of a quote.

    Raises:
        DataLossError: QUOTE_INVALID, the passage has no such text.
    """
    if not 0 <= quote.passage < len(hits):
        raise DataLossError("QUOTE_INVALID", "the engine quoted a passage that it did not get")
    hit = hits[quote.passage]
    passage = hit.passage
    if not 0 <= quote.start < quote.end <= len(passage.text):
        raise DataLossError("QUOTE_INVALID", "the engine quoted text outside of the passage")
    return Citation(
        marker=quote.marker,
        passage=passage,
        quote=passage.text[quote.start : quote.end],
        start=quote.start,
        end=quote.end,
        score=hit.score,
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
