"""Checks of questions, passages and answers, and what becomes of what they find."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis.base.errors import InvalidInputError, UnavailableError
from query.domain import QUESTION_MAX_CHARS, Hit, check_question
from query.guardrail import Action, Finding, Outcome, Stage, Verdict, judge, redact
from query.guardrail_records import observe

log = logging.getLogger(__name__)


class Check(Protocol):
    """Finds something in texts; holds no state between them."""

    async def inspect(self, text: str) -> Sequence[Finding]:
        """What is found, in any order; nothing: the text passes.

        Takes time at most in proportion to the text, or waits for a model. Whatever it raises is a
        failure of the check.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A check with its place, and what is done when it finds something or fails.

    `closed`: if it fails, so does the call; otherwise the text passes. `whole`: it needs the whole
    answer at once, and asks a model.
    """

    name: str
    check: Check
    stage: Stage
    action: Action
    closed: bool
    deadline_s: float
    whole: bool = False

    async def inspect(self, text: str) -> Sequence[Finding] | None:
        """What is found; None if the check failed and the text passes.

        Raises:
            UnavailableError: GUARDRAIL_FAILED.
        """
        try:
            async with asyncio.timeout(self.deadline_s):
                return await self.check.inspect(text)
        except Exception as error:
            # Without its message, which may have words of the text.
            log.warning(
                "guardrail.failed", extra={"check": self.name, "error": type(error).__name__}
            )
            if not self.closed:
                return None
            observe(self.make_failed())
            raise UnavailableError(
                "GUARDRAIL_FAILED",
                f"the check {self.name} could not tell whether the text passes; try again",
                check=self.name,
            ) from error

    def make_failed(self) -> Verdict:
        """The verdict if the check failed."""
        return Verdict(check=self.name, stage=self.stage, outcome=Outcome.FAILED)

    def judge(self, count: int) -> Verdict:
        """The verdict on what was found so often."""
        return judge(self.name, self.stage, self.action, count)


@dataclass(frozen=True, slots=True)
class Guardrails:
    """The guards of a service, each asked in the order of its settings."""

    guards: Sequence[Guard] = ()

    def list_at(self, stage: Stage) -> Sequence[Guard]:
        """The guards of a stage."""
        return [guard for guard in self.guards if guard.stage is stage]

    async def check_question(
        self, text: str, *, by_models: bool = True
    ) -> tuple[str, list[Verdict]]:
        """The question as it may be used, and the verdicts; without guards that ask a model if so.

        Raises:
            InvalidInputError: GUARDRAIL_BLOCKED.
            UnavailableError: GUARDRAIL_FAILED.
        """
        check_question(text)
        verdicts: list[Verdict] = []
        for guard in self.list_at(Stage.INPUT):
            if guard.whole and not by_models:
                continue
            findings = await guard.inspect(text)
            failed = findings is None
            verdict = guard.make_failed() if failed else guard.judge(len(findings or ()))
            observe(verdict)
            verdicts.append(verdict)
            if verdict.outcome is Outcome.BLOCKED:
                raise InvalidInputError(
                    "GUARDRAIL_BLOCKED",
                    f"the check {guard.name} does not let this question pass",
                    check=guard.name,
                )
            if verdict.outcome is Outcome.REDACTED:
                text = redact(text, findings or ())[:QUESTION_MAX_CHARS]
        return text, verdicts

    async def choose_hits(self, hits: Sequence[Hit]) -> tuple[Sequence[Hit], list[Verdict]]:
        """The hits that a model may read, and the verdicts.

        Raises:
            UnavailableError: GUARDRAIL_FAILED.
        """
        kept, verdicts = hits, []
        for guard in self.list_at(Stage.PASSAGES):
            found = [await guard.inspect(hit.passage.text_in_context) for hit in kept]
            verdict = guard.judge(sum(bool(one) for one in found))
            if verdict.outcome is Outcome.PASSED and None in found:
                verdict = guard.make_failed()
            observe(verdict)
            verdicts.append(verdict)
            if verdict.outcome is Outcome.BLOCKED:
                kept = [one for one, findings in zip(kept, found, strict=True) if not findings]
        return kept, verdicts
