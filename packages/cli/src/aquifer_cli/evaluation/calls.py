"""Asks many questions, some at the same time, and tries again what may succeed later."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from aquifer_cli.concurrency import run_concurrently
from aquifer_cli.errors import CommandError
from aquifer_cli.evaluation.files import Question
from aquifer_cli.outcome import is_temporary

SIDE_BY_SIDE: Final = 4
# A question is tried again until it has failed for this time.
PATIENCE_S: Final = 60.0
RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 8.0

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A question without a result, and why."""

    question: str
    reason: str
    detail: str


async def ask_each(
    questions: Sequence[Question],
    ask: Callable[[Question], Awaitable[R]],
    *,
    done: Callable[[], None],
) -> tuple[dict[str, R], list[Failure]]:
    """The results by question id, and the failures.

    Args:
        questions: asked in this order, `SIDE_BY_SIDE` at once.
        ask: raises CommandError.
        done: called after each question.

    Raises:
        CommandError: the key is not accepted, or every question has failed.
    """

    async def ask_one(question: Question) -> R | CommandError:
        try:
            return await _try(lambda: ask(question))
        except CommandError as error:
            if error.of_key:
                raise
            return error
        finally:
            done()

    outcomes = await run_concurrently(ask_one, questions, SIDE_BY_SIDE)
    results: dict[str, R] = {}
    failures: list[Failure] = []
    for question, outcome in zip(questions, outcomes, strict=True):
        if isinstance(outcome, CommandError):
            failures.append(
                Failure(question=question.id, reason=outcome.reason, detail=outcome.detail)
            )
            first = outcome
        else:
            results[question.id] = outcome
    if failures and not results:
        raise first
    return results, failures


async def _try(ask: Callable[[], Awaitable[R]]) -> R:
    clock = asyncio.get_running_loop().time
    until, pause_s = clock() + PATIENCE_S, RETRY_FIRST_S
    while True:
        try:
            return await ask()
        except CommandError as error:
            if not is_temporary(error) or clock() > until:
                raise
            await asyncio.sleep(max(pause_s, error.retry_s))
            pause_s = min(pause_s * 2, RETRY_MAX_S)
