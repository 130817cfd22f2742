"""Answers and passages as messages of the contract, and in spans."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from opentelemetry.trace import Span, SpanContext, TraceFlags

from aquifer.ingest.v1.document_pb2 import PageBreak
from aquifer.lines import STEPS_PER_POINT
from aquifer.query.v1 import query_service_pb2 as pb
from aquifer.structs import to_struct
from chassis.base.errors import FieldViolation, InvalidInputError
from query.answer import (
    Answer,
    Citation,
    Delta,
    Feedback,
    Finish,
    FinishReason,
    Rating,
    Started,
    Step,
    feedback_range_error,
)
from query.domain import Passage
from query.guardrail import Outcome, Stage
from query.lines import find_lines

_SPAN_ID_MAX: Final = 2**64 - 1
FINISH_REASONS: Final = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.NO_ANSWER: pb.FINISH_REASON_NO_ANSWER,
    FinishReason.FILTERED: pb.FINISH_REASON_FILTERED,
}
STAGES: Final = {
    Stage.INPUT: pb.CHECK_STAGE_INPUT,
    Stage.PASSAGES: pb.CHECK_STAGE_PASSAGES,
    Stage.OUTPUT: pb.CHECK_STAGE_OUTPUT,
}
OUTCOMES: Final = {
    Outcome.PASSED: pb.CHECK_OUTCOME_PASSED,
    Outcome.RECORDED: pb.CHECK_OUTCOME_RECORDED,
    Outcome.REDACTED: pb.CHECK_OUTCOME_REDACTED,
    Outcome.BLOCKED: pb.CHECK_OUTCOME_BLOCKED,
    Outcome.FAILED: pb.CHECK_OUTCOME_FAILED,
}
RATINGS: Final = {Rating.GOOD: pb.RATING_GOOD, Rating.BAD: pb.RATING_BAD}


def annotate(span: Span, step: Step) -> None:
    """Writes an answer's id and prompt to its span, and links to the traces of what it cites."""
    match step:
        case Started():
            span.set_attribute("aquifer.answer.id", str(step.answer_id))
        case Citation(passage=passage) if passage.ingest_trace_id:
            span.add_link(
                _remote_context(passage.ingest_trace_id),
                {
                    "document.id": passage.version.document,
                    "aquifer.document.version": passage.version.number,
                },
            )
        case Finish() if step.prompt:
            name, _, version = step.prompt.rpartition("@")
            span.set_attribute("gen_ai.prompt.name", name)
            span.set_attribute("gen_ai.prompt.version", version)
        case _:
            pass


def _remote_context(trace_id: str) -> SpanContext:
    """A span context in a trace; its span is unknown, but a link needs a span id."""
    number = int(trace_id, 16)
    span_id = number & _SPAN_ID_MAX or 1
    return SpanContext(number, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def to_step(step: Step) -> pb.AskResponse:
    """A step of an answer."""
    match step:
        case Started():
            started = pb.AnswerStarted(answer_id=str(step.answer_id), trace_id=step.trace_id)
            return pb.AskResponse(started=started)
        case Delta():
            return pb.AskResponse(delta=pb.AnswerDelta(text=step.text))
        case Citation():
            return pb.AskResponse(citation=to_citation(step))
        case Finish():
            return pb.AskResponse(finished=_to_finished(step))


def to_answer(answer: Answer) -> pb.Answer:
    """A whole answer."""
    return pb.Answer(
        answer_id=str(answer.answer_id),
        question=answer.question,
        text=answer.text,
        citations=[to_citation(citation) for citation in answer.citations],
        finished=_to_finished(answer.finish),
        trace_id=answer.trace_id,
        feedback=_to_feedback(answer.feedback) if answer.feedback else None,
    )


def read_as_of(request: pb.SearchRequest | pb.AskRequest) -> datetime | None:
    """The time whose versions a request wants; None: those that are live.

    Raises:
        InvalidInputError: AS_OF_RANGE.
    """
    if not request.HasField("as_of"):
        return None
    try:
        return request.as_of.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        detail = "a time from the year 1 to 9999"
        raise InvalidInputError(
            "AS_OF_RANGE", f"as_of must be {detail}", fields=[FieldViolation("as_of", detail)]
        ) from error


def read_feedback(given: pb.Feedback) -> Feedback:
    """What a caller thinks of an answer.

    Raises:
        InvalidInputError: FEEDBACK_RANGE.
    """
    for rating, value in RATINGS.items():
        if given.rating == value:
            return Feedback(rating=rating, reason=given.reason)
    raise feedback_range_error("feedback.rating", "RATING_GOOD or RATING_BAD")


def _to_feedback(feedback: Feedback) -> pb.Feedback:
    converted = pb.Feedback(rating=RATINGS[feedback.rating], reason=feedback.reason)
    if feedback.given_at:
        converted.give_time.FromDatetime(feedback.given_at)
    return converted


def to_citation(citation: Citation) -> pb.Citation:
    """A citation with its passage."""
    return pb.Citation(
        marker=citation.marker,
        passage=to_passage(citation.passage),
        quote=citation.quote,
        quote_start=citation.start,
        quote_end=citation.end,
        page=citation.page,
        lines=to_lines(citation.passage, citation.start, citation.end),
        score=citation.score,
        upload_event_id=citation.passage.upload_event_id,
    )


def _to_finished(finish: Finish) -> pb.AnswerFinished:
    return pb.AnswerFinished(
        reason=FINISH_REASONS[finish.reason],
        usage=pb.Usage(input_tokens=finish.input_tokens, output_tokens=finish.output_tokens),
        model=finish.model,
        generative=finish.generative,
        confidence=finish.confidence,
        degraded=finish.degraded,
        prompt=finish.prompt,
        verdicts=[
            pb.Verdict(
                check=one.check,
                stage=STAGES[one.stage],
                outcome=OUTCOMES[one.outcome],
                count=one.count,
            )
            for one in finish.verdicts
        ],
    )


def to_lines(passage: Passage, start: int, end: int) -> Iterator[pb.Line]:
    """The lines of a part of a passage."""
    for page, line in find_lines(passage, start, end):
        yield pb.Line(
            page=page,
            start=line.start,
            end=line.end,
            left=line.left / STEPS_PER_POINT,
            top=line.top / STEPS_PER_POINT,
            right=line.right / STEPS_PER_POINT,
            bottom=line.bottom / STEPS_PER_POINT,
        )


def to_passage(passage: Passage) -> pb.Passage:
    """A passage, without its lines."""
    return pb.Passage(
        document=passage.version.document,
        version=passage.version.number,
        chunk_id=str(passage.chunk_id),
        ordinal=passage.ordinal,
        text=passage.text,
        title=passage.title,
        metadata=to_struct(passage.metadata),
        start=passage.start,
        end=passage.end,
        page=passage.page,
        page_breaks=[PageBreak(start=one.start, page=one.page) for one in passage.page_breaks],
        headings=passage.headings,
        table_header=passage.table_header,
        ingest_trace_id=passage.ingest_trace_id,
    )
