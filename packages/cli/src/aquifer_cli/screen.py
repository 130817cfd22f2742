"""Where results go: tables and progress for people, one object a line for machines."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

STATE_STYLES = {"INDEXED": "green", "FAILED": "red", "ACCEPTED": "yellow", "PREPARED": "yellow"}


class Screen:
    """Output of one command; results on stdout, everything else on stderr."""

    def __init__(self, *, machine: bool) -> None:
        self.machine = machine
        self.out = Console(highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    def record(self, value: Mapping[str, object]) -> None:
        """One object on one line."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def say(self, text: str, *, style: str = "", end: str = "\n") -> None:
        """Text for people, as it is."""
        if not self.machine:
            self.out.print(text, style=style, end=end, markup=False)

    def note(self, text: str) -> None:
        """A line beside the result."""
        if not self.machine:
            self.err.print(text, style="dim", markup=False)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Rows under a title."""
        table = Table(*columns, title=title, title_justify="left", header_style="bold", box=None)
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        self.out.print(table)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator["Bar"]:
        """A bar on stderr while work goes on; nothing for machines or without a terminal."""
        hidden = self.machine or not self.err.is_terminal
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.err, disable=hidden, transient=True) as progress:
            yield Bar(progress, label, total)


class Bar:
    """One line of progress."""

    def __init__(self, progress: Progress, label: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=total)

    def advance(self, steps: float = 1) -> None:
        """More is done."""
        self._progress.advance(self._task, steps)


def _cell(value: object) -> Text:
    # Never a plain string: document titles may look like markup.
    text = str(value)
    return Text(text, style=STATE_STYLES.get(text, ""))
