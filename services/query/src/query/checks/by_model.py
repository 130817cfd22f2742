"""Asks a model about a text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from typing_extensions import override

from query.guardrail import Finding
from query.usecases.guardrails import Check

ANSWERS: Final = {"yes": True, "no": False}


class Judge(Protocol):
    """A model that answers a question about a text."""

    async def ask(self, model: str, question: str, text: str) -> str:
        """What it says, in a few words; an empty `model` means the default one.

        Raises:
            ServiceError: it cannot be asked.
        """


class UndecidedError(Exception):
    """The model said neither yes nor no."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCheck(Check):
    """See `Check`; finds a text as a whole if the model says yes to `question` about it."""

    judge: Judge
    question: str
    model: str = ""

    @override
    async def inspect(self, text: str) -> Sequence[Finding]:
        if not text.strip():
            return ()
        said = await self.judge.ask(self.model, self.question, text)
        word = said.strip().partition("\n")[0].strip(" .,!*\"'`").casefold()
        if word not in ANSWERS:
            raise UndecidedError
        return [Finding(start=0, end=len(text), kind="MODEL")] if ANSWERS[word] else ()
