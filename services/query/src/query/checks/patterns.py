"""Finds regular expressions, by RE2: its time grows with the text alone, whatever both are."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import re2
from typing_extensions import override

from query.guardrail import Finding
from query.usecases.guardrails import Check

KIND: Final = "PATTERN"


def compile_pattern(pattern: str) -> Any:
    """The pattern, which has the syntax of RE2.

    Raises:
        ValueError: it cannot be read, is too large, or matches no character at all.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        [told] = error.args
        raise ValueError(f"{pattern!r} is no pattern of RE2: {told.decode()}") from error
    if compiled.search(""):
        raise ValueError(f"{pattern!r} matches an empty text")
    return compiled


class PatternCheck(Check):
    """See `Check`; finds what one of the patterns matches."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [compile_pattern(pattern) for pattern in patterns]

    @override
    async def inspect(self, text: str) -> Sequence[Finding]:
        return list(self._find(text))

    def _find(self, text: str) -> Iterator[Finding]:
        for pattern in self._patterns:
            for found in pattern.finditer(text):
                start, end = found.span()
                if start < end:
                    yield Finding(start=start, end=end, kind=KIND)
