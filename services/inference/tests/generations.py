"""Requests for the tests of what answers questions, and what their steps say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inference.generation import (
    CitationMark,
    Generation,
    Message,
    Passage,
    Role,
    Step,
    TextDelta,
)


def ask(question: str, passages: Sequence[str] = (), *, model: str = "", **more: Any) -> Generation:
    """A question about passages, as query asks it."""
    block = tuple(Passage(text=text) for text in passages)
    parts = [block, question] if block else [question]
    settings = {"max_output_tokens": 512} | more
    message = Message(role=Role.USER, parts=parts)
    return Generation(model=model, messages=[message], **settings)


@dataclass(frozen=True)
class Quoted:
    """A citation with its words."""

    passage: int
    text: str
    marker: str


def quotes(steps: Sequence[Step], request: Generation) -> list[Quoted]:
    """The citations that quote."""
    return [
        Quoted(step.passage, request.passages[step.passage].text[slice(*step.span)], step.marker)
        for step in steps
        if isinstance(step, CitationMark) and step.span
    ]


def said(steps: Sequence[Step]) -> str:
    """The answer's text."""
    return "".join(step.text for step in steps if isinstance(step, TextDelta))
