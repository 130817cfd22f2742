"""Finds texts that are too long."""

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from query.guardrail import Finding
from query.usecases.guardrails import Check


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthCheck(Check):
    """See `Check`; finds what stands behind `max_chars`."""

    max_chars: int

    @override
    async def inspect(self, text: str) -> Sequence[Finding]:
        if len(text) <= self.max_chars:
            return ()
        return [Finding(start=self.max_chars, end=len(text), kind="LENGTH")]
