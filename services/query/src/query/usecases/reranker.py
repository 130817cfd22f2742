"""The interface of what orders found passages again."""

from collections.abc import Sequence
from typing import Protocol


class Reranker(Protocol):
    """Scores passages by reading them together with the question."""

    async def score(self, model: str, question: str, texts: Sequence[str]) -> Sequence[float]:
        """A score for each text, higher is better; an empty `model` means the default one.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
            InvalidInputError: CAPABILITY_MISSING, PROMPT_TOO_LONG, REQUEST_REFUSED.
            UnavailableError: INFERENCE_UNAVAILABLE, or a reason of the engine.
            OverloadedError: its queue is full.
        """
