"""Steps that a collection turns on for its documents, after they are read; all are off first.

The child imports this module, so keep it small.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from ingest.notes import Note, NoteCode


class Step(StrEnum):
    """The steps in the order in which they run, named as in the contract."""

    REPEATED_LINES = "REPEATED_LINES"
    PII_MASKING = "PII_MASKING"
    NEAR_DUPLICATES = "NEAR_DUPLICATES"


# Raise a version whenever the step may make another text, or another signature, of the same one.
VERSIONS: Final[Mapping[Step, int]] = MappingProxyType(
    {Step.REPEATED_LINES: 1, Step.PII_MASKING: 1, Step.NEAR_DUPLICATES: 1}
)
# They run before the text is cut; with their versions they are part of every chunk id.
CHANGES_TEXT: Final = (Step.REPEATED_LINES, Step.PII_MASKING)
# Kinds of things that a step may count.
KINDS_MAX: Final = 16


class Applied(NamedTuple):
    """A step that changed a document, and how many things of each kind."""

    step: Step
    counts: Mapping[str, int]

    def note(self) -> Note:
        """Tells the version of the step and its counts; contains no document text."""
        found = ", ".join(f"{count:,} {kind}" for kind, count in self.counts.items())
        detail = f"version {VERSIONS[self.step]}: {found or 'nothing found'}"
        return Note(NoteCode(self.step), detail)


def order_steps(chosen: Collection[Step]) -> tuple[Step, ...]:
    """The chosen steps in the order in which they run."""
    return tuple(step for step in Step if step in chosen)


def name_steps(chosen: Sequence[Step]) -> list[str]:
    """The steps with their versions, as in `PII_MASKING.1`."""
    return [f"{step}.{VERSIONS[step]}" for step in chosen]
