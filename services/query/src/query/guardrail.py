"""Guardrails: what checks find in texts, and what becomes of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum


class Stage(Enum):
    """What is checked: the question, retrieved passages, or the answer."""

    INPUT = "input"
    PASSAGES = "passages"
    OUTPUT = "output"


class Action(Enum):
    """What happens to a text in which something is found."""

    RECORD = "record"
    REDACT = "redact"
    BLOCK = "block"


class Outcome(Enum):
    """How a check ended, in ascending order of what it did."""

    PASSED = "passed"
    RECORDED = "recorded"
    REDACTED = "redacted"
    BLOCKED = "blocked"
    FAILED = "failed"


OUTCOMES = {
    Action.RECORD: Outcome.RECORDED,
    Action.REDACT: Outcome.REDACTED,
    Action.BLOCK: Outcome.BLOCKED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Characters `start` to `end` of a text, and what they are, in capitals."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a check ended, and how often it found something: in how many passages, for passages."""

    check: str
    stage: Stage
    outcome: Outcome
    count: int = 0


def judge(check: str, stage: Stage, action: Action, count: int) -> Verdict:
    """The verdict on something that was found so often."""
    outcome = OUTCOMES[action] if count else Outcome.PASSED
    return Verdict(check=check, stage=stage, outcome=outcome, count=count)


def redact(text: str, findings: Iterable[Finding]) -> str:
    """The text with the kind of each finding in its place, as in `[EMAIL]`."""
    kept: list[str] = []
    end = 0
    for found in join(findings):
        kept += [text[end : found.start], f"[{found.kind}]"]
        end = found.end
    return "".join([*kept, text[end:]])


def join(findings: Iterable[Finding]) -> Sequence[Finding]:
    """Findings in order; those that overlap are one, of the kind of the first."""
    joined: list[Finding] = []
    for found in sorted(findings, key=lambda one: (one.start, -one.end)):
        if joined and found.start < joined[-1].end:
            last = joined[-1]
            end = max(last.end, found.end)
            joined[-1] = Finding(start=last.start, end=end, kind=last.kind)
        else:
            joined.append(found)
    return joined


def shift(findings: Iterable[Finding], chars: int) -> Iterator[Finding]:
    """Findings in a text without its first `chars` characters."""
    for found in findings:
        if found.end > chars:
            start = max(found.start - chars, 0)
            yield Finding(start=start, end=found.end - chars, kind=found.kind)
