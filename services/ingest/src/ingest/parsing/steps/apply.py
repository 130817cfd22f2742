"""Applies the steps that a collection has turned on."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final, cast

from ingest.parsing.steps.pages import Changed, Pages
from ingest.steps import Applied, Step

# Loaded when it is first needed: one of them needs libraries that other documents do not.
_MODULES: Final = {Step.REPEATED_LINES: "repeated_lines", Step.PII_MASKING: "pii_masking"}


def apply(pages: Pages, steps: Sequence[Step]) -> tuple[Pages, tuple[Applied, ...]]:
    """Runs the steps in their order; one that has no use for such a document is left out."""
    applied: list[Applied] = []
    for step in steps:
        run = cast(
            Callable[[Pages], Changed | None],
            import_module(f"ingest.parsing.steps.{_MODULES[step]}").run,
        )
        if (changed := run(pages)) is not None:
            pages, counts = changed
            applied.append(Applied(step, counts))
    return pages, tuple(applied)
