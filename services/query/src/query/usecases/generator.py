"""The interface of what answers questions from passages."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from query.domain import Generated, Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A question and the passages, best first; the answer may use nothing else.

    An empty `model` means the default.
    """

    question: str
    passages: Sequence[Passage]
    model: str
    max_output_tokens: int


class Generator(Protocol):
    """Answers questions from passages."""

    def generate(self, prompt: Prompt) -> AbstractAsyncContextManager[AsyncIterator[Generated]]:
        """Answer for the current call: deltas and quotes in order, then exactly one `Finish`.

        Leaving the context stops the work. Without passages the result is NO_ANSWER.

        Raises:
            UnavailableError: INFERENCE_UNAVAILABLE.
            NotFoundError: MODEL_UNKNOWN.
            OverloadedError: its queue is full.
        """
