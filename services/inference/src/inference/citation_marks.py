"""Finds the citations in the text of a model that writes: numbers of passages in brackets."""

import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from inference.generation import CitationMark, Step, TextDelta

# `[2]`, and several at once: `[1, 3]`.
_MARK = re.compile(r"\[\s*(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\s*\]")
# The longest beginning of a mark that text is kept for.
_OPEN_MAX_CHARS = 32
_OPEN = re.compile(r"\[[\d\s,;]*\Z")


async def mark_citations(
    steps: AsyncGenerator[Step, None], passages: int
) -> AsyncGenerator[Step, None]:
    """The steps, with a `CitationMark` behind each piece of text that ends with one.

    Only a bracket that may become a mark waits for the text after it. Numbers that no passage has
    are left in the text and are no citation.
    """
    held = ""
    async with aclosing(steps):
        async for step in steps:
            if not isinstance(step, TextDelta):
                if held:
                    yield TextDelta(held)
                    held = ""
                yield step
                continue
            text = held + step.text
            held = _find_open(text)
            for found in _split(text[: len(text) - len(held)], passages):
                yield found
        if held:
            yield TextDelta(held)


def _find_open(text: str) -> str:
    """The end of a text that may be the beginning of a mark."""
    found = _OPEN.search(text, max(0, len(text) - _OPEN_MAX_CHARS))
    return found[0] if found else ""


def _split(text: str, passages: int) -> Iterator[Step]:
    start = 0
    for found in _MARK.finditer(text):
        named = [int(number) - 1 for number in re.findall(r"\d+", found[1])]
        cited = [number for number in dict.fromkeys(named) if 0 <= number < passages]
        if cited:
            yield TextDelta(text[start : found.end()])
            start = found.end()
        for number in cited:
            yield CitationMark(passage=number, marker=found[0])
    if start < len(text):
        yield TextDelta(text[start:])
