"""Shows an answer while it arrives."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aquifer.query.v1.query_service_pb2 import (
    AnswerFinished,
    AskRequest,
    AskResponse,
    CheckOutcome,
    Citation,
    FinishReason,
)
from aquifer_cli import ask as asking
from aquifer_cli.client import Client
from aquifer_cli.screen import Screen

ENDS = {
    FinishReason.FINISH_REASON_LENGTH: ", cut at its limit",
    FinishReason.FINISH_REASON_FILTERED: ", stopped by a guardrail or by the engine",
}
# Of guardrails that passed or only recorded, people need no word.
OUTCOMES = {
    CheckOutcome.CHECK_OUTCOME_REDACTED: "parts were replaced",
    CheckOutcome.CHECK_OUTCOME_BLOCKED: "parts were left out",
    CheckOutcome.CHECK_OUTCOME_FAILED: "it did not work",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An answer that was shown: its id, and why it ended, `STOP` being the good reason."""

    answer_id: str
    reason: str


async def show_answer(
    client: Client, screen: Screen, request: AskRequest, *, indent: str = ""
) -> Shown:
    """Asks a question and prints the answer while it arrives.

    Raises:
        CommandError: with the reason of the service; what had come stays printed.
    """
    return await show_steps(asking.ask(client, request), screen, indent=indent)


async def show_steps(
    steps: AsyncIterator[AskResponse], screen: Screen, *, indent: str = ""
) -> Shown:
    """Prints an answer while it arrives; for programs, each step.

    Raises:
        CommandError: as `steps`; what had come stays printed.
    """
    answer_id = reason = ""
    started_s, first_s = time.monotonic(), 0.0
    citations: list[Citation] = []
    text = screen.flow(indent)
    try:
        async for step in steps:
            if screen.machine:
                screen.record(asking.step_json(step))
            match step.WhichOneof("step"):
                case "started":
                    answer_id = step.started.answer_id
                case "delta":
                    first_s = first_s or time.monotonic() - started_s
                    text.add(step.delta.text)
                case "citation":
                    citations.append(step.citation)
                case "finished":
                    text.end()
                    reason = FinishReason.Name(step.finished.reason).removeprefix("FINISH_REASON_")
                    _show_end(screen, citations, step.finished, first_s, indent)
    finally:
        text.end()
    return Shown(answer_id=answer_id, reason=reason)


def _show_end(
    screen: Screen,
    citations: list[Citation],
    finished: AnswerFinished,
    first_s: float,
    indent: str,
) -> None:
    for citation in citations:
        screen.fill(asking.citation_line(citation), indent, style="cyan")
    kind = "writes text" if finished.generative else "quotes and does not write text"
    rated = citations and finished.HasField("confidence")
    confidence = f", confidence {finished.confidence:.2f}" if rated else ""
    cut = ENDS.get(finished.reason, "")
    # A model that quotes does not read it.
    by = f", told by {finished.prompt}" if finished.generative and finished.prompt else ""
    screen.note(f"by {finished.model}, which {kind}{by}{confidence}{cut}", indent)
    for verdict in finished.verdicts:
        if told := OUTCOMES.get(verdict.outcome):
            screen.note(f"guardrail {verdict.check}: {told} ({verdict.count})", indent)
    usage = finished.usage
    tokens = f"{usage.input_tokens:,} tokens read, {usage.output_tokens:,} written"
    screen.note(f"{tokens}, the first after {first_s:.2f} s", indent)
    if finished.degraded:
        screen.note("the model that writes is away, so the documents are only quoted", indent)
