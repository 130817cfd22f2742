"""Shortens a prompt that is too long for its model, by the model's own count of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from query.answer import Exchange
from query.domain import Passage
from query.usecases.generator import Prompt

# What a conversation and the fences of passages add, for each part; models differ.
PART_TOKENS: Final = 24
# Of what is left for passages and history.
HISTORY_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of texts, and the most that a prompt may have together with its answer."""

    counts: Sequence[int]
    context_tokens: int


class TokenCounter(Protocol):
    """Counts tokens as a model does."""

    async def count(self, model: str, texts: Sequence[str]) -> Counted | None:
        """The count; None if the model cannot count, does not tell its context, or is away."""


async def shorten(prompt: Prompt, tokens: TokenCounter) -> Prompt:
    """The prompt without the passages and exchanges for which there is no room.

    The best passages and the latest exchanges stay, at least one passage. If nobody can count, or
    the count shows no reason, it is `halve`.
    """
    counted = await tokens.count(
        prompt.model,
        [
            prompt.instructions,
            prompt.question,
            *(_read_passage(passage) for passage in prompt.passages),
            *(_read_exchange(exchange) for exchange in prompt.history),
        ],
    )
    shorter = fit(prompt, counted) if counted else prompt
    return halve(prompt) if shorter == prompt else shorter


def fit(prompt: Prompt, counted: Counted) -> Prompt:
    """The prompt with what has room beside instructions, question and answer."""
    costs = [count + PART_TOKENS for count in counted.counts]
    left = counted.context_tokens - prompt.max_output_tokens - sum(costs[:2])
    behind = 2 + len(prompt.passages)
    history, kept = costs[behind:], len(prompt.history)
    while kept and sum(history[-kept:]) > max(left, 0) * HISTORY_SHARE:
        kept -= 1
    left -= sum(history[len(history) - kept :])
    passages, shown = costs[2:behind], len(prompt.passages)
    while shown > 1 and sum(passages[:shown]) > left:
        shown -= 1
    return replace(
        prompt,
        passages=prompt.passages[:shown],
        history=prompt.history[len(prompt.history) - kept :],
    )


def halve(prompt: Prompt) -> Prompt:
    """The better half of the passages, at least one, and the later half of the history."""
    kept = max(1, len(prompt.passages) // 2)
    history = prompt.history[(len(prompt.history) + 1) // 2 :]
    return replace(prompt, passages=prompt.passages[:kept], history=history)


def _read_passage(passage: Passage) -> str:
    return f"{passage.title}\n{passage.text}"


def _read_exchange(exchange: Exchange) -> str:
    return f"{exchange.question}\n{exchange.answer}"
