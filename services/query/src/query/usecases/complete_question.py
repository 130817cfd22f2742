"""Makes a question of a conversation one that can be understood alone."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from opentelemetry import trace

from chassis.base.errors import ServiceError
from chassis.base.telemetry import TRACER_NAME
from query.domain import QUESTION_MAX_CHARS
from query.words import follow_ups

log = logging.getLogger(__name__)

# The first word of the answer waits for it.
REWRITE_MAX_S: Final = 3.0
# A model that answers instead of rewriting writes more.
LONGER_MAX: Final = 4
ADDED_MAX_CHARS: Final = 200


class Rewriter(Protocol):
    """A model that rewrites questions."""

    async def rewrite(self, model: str, earlier: Sequence[str], question: str) -> str:
        """The question with what it leans on in earlier ones, oldest first.

        Raises:
            ServiceError: it cannot be asked.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteQuestion:
    """Completes a question that leans on earlier ones: by a model, or by adding their words.

    An empty `model` means the rule alone, which also decides whether a question leans on others.
    The model reads questions and no answers, so it cannot repeat what a deleted document said.
    """

    rewriter: Rewriter
    model: str = ""

    async def run(self, question: str, earlier: Sequence[str]) -> str:
        """The question, as it is if it stands alone; earlier ones are the oldest first."""
        completed = follow_ups.complete_question(question, earlier)[:QUESTION_MAX_CHARS]
        if completed == question or not self.model:
            return completed
        with trace.get_tracer(TRACER_NAME).start_as_current_span("rewrite the question") as span:
            rewritten = await self._rewrite(question, earlier)
            span.set_attribute("aquifer.rewritten", bool(rewritten))
        return rewritten or completed

    async def _rewrite(self, question: str, earlier: Sequence[str]) -> str:
        """What the model makes of it; empty if that is no question, or comes too late."""
        try:
            async with asyncio.timeout(REWRITE_MAX_S):
                said = await self.rewriter.rewrite(self.model, earlier, question)
        except (ServiceError, TimeoutError) as error:
            reason = error.reason if isinstance(error, ServiceError) else "DEADLINE"
            log.warning("question.not_rewritten", extra={"reason": reason})
            return ""
        [line, *more] = said.strip().splitlines() or [""]
        fits = len(line) <= min(QUESTION_MAX_CHARS, LONGER_MAX * len(question) + ADDED_MAX_CHARS)
        return line.strip() if fits and not more and "\x00" not in line else ""
