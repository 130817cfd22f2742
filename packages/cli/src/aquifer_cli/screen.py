"""Where results go: tables and progress for people, one object a line for machines."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from math import ceil
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from aquifer_cli import layout
from aquifer_cli.errors import OutputError
from aquifer_cli.launch import spell_commands
from aquifer_cli.layout import GAP, Flow, Row

WIDTH_MIN = 20
STILL_S = 5.0
STYLES = {
    "INDEXED": "green",
    "FAILED": "red",
    "REFUSED": "red",
    "NO": "bold red",
    "ACCEPTED": "yellow",
    "PREPARED": "yellow",
    "SKIPPED": "yellow",
    "NOT_SENT": "red",
}


class _Terminal(Console):
    """A console whose reader may go away: that is for `main` to see, wherever it happens.

    The library would end the process, inside an event loop as well, which then complains.
    """

    def on_broken_pipe(self) -> None:  # type: ignore[explicit-override]
        raise BrokenPipeError


class Screen:
    """Output of one command; results on stdout, everything else on stderr."""

    def __init__(self, *, machine: bool) -> None:
        self.machine = machine
        self._out = _Terminal(highlight=False, soft_wrap=True)
        self._err = _Terminal(stderr=True, highlight=False, soft_wrap=True)

    @property
    def width(self) -> int | None:
        """Cells of a line; None where nobody looks and a line may be as long as it is."""
        return _width(self._out)

    @property
    def animated(self) -> bool:
        """Whether somebody sees progress move."""
        return not self.machine and self._err.is_terminal

    def record(self, value: Mapping[str, object]) -> None:
        """One object on one line."""
        plain = sys.stdout.encoding.lower().replace("-", "") != "utf8"
        with _translate_errors():
            sys.stdout.write(json.dumps(value, ensure_ascii=plain) + "\n")
            sys.stdout.flush()

    def say(self, text: str | Text = "", *, style: str = "") -> None:
        """A line for people, as it is save for what a terminal would obey."""
        if not self.machine:
            with _translate_errors():
                self._out.print(_escape_controls(text), style=style, markup=False)

    def fill(self, text: str, indent: str = "", *, style: str = "") -> None:
        """Text for people, broken between words."""
        for line in layout.fill(text, self.width, indent):
            self.say(line, style=style)

    def flow(self, indent: str = "") -> Flow:
        """Text for people that comes in pieces."""

        def write(piece: str) -> None:
            if not self.machine:
                with _translate_errors():
                    self._out.print(layout.escape_controls(piece), end="", markup=False)

        return Flow(write, self.width, indent)

    def note(self, text: str, indent: str = "") -> None:
        """A line beside the result."""
        if not self.machine:
            self._write_aside(spell_commands(text), "dim", indent)

    def fail(self, text: str, hint: str) -> None:
        """What went wrong and what to do next."""
        self._write_aside(text, "red")
        self._write_aside(spell_commands(hint), "dim")

    def _write_aside(self, text: str, style: str, indent: str = "") -> None:
        for paragraph in text.splitlines():
            for line in layout.fill(paragraph, _width(self._err), indent):
                self._err.print(_escape_controls(line), style=style, markup=False)

    def table(self, head: Sequence[str], rows: Sequence[Row]) -> None:
        """Rows under their heads; nothing where there are no rows."""
        if not rows or self.machine:
            return
        first, *lines = layout.table(head, rows, self.width)
        self.say(GAP.join(first).rstrip(), style="bold")
        for row, cells in zip(rows, lines, strict=True):
            self.say(_style(cells))
            if row.below:
                self.fill(row.below, "    ", style="dim")

    @contextmanager
    def show_progress(self, **totals: int) -> Iterator[dict[str, "Bar"]]:
        """A bar each on stderr while work goes on; nothing for machines or without a terminal."""
        hidden = not self.animated
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Left(),
        )
        # `Progress` cuts its lines to the width; a soft wrapping console would break them.
        console = Console(stderr=True, highlight=False)
        with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
            yield {
                label: Bar(progress, progress.add_task(label, total=total, moved=monotonic()))
                for label, total in totals.items()
            }

    @contextmanager
    def show_waiting(self, text: str) -> Iterator[None]:
        """A sign of life on stderr while there is nothing to count."""
        if not self.animated:
            self.note(text)
            yield
            return
        with self._err.status(Text(text)):
            yield


class _Left(ProgressColumn):
    """How long it goes on; nothing while nothing moves, for then nobody knows."""

    def render(self, task: Task) -> Text:  # type: ignore[explicit-override]
        left_s = task.time_remaining
        if left_s is None or task.finished or monotonic() - task.fields["moved"] > STILL_S:
            return Text()
        return Text(f"{timedelta(seconds=ceil(left_s))} left", style="progress.remaining")


class Bar:
    """One line of progress."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self) -> None:
        """One more is done."""
        self._progress.update(self._task, advance=1, moved=monotonic())

    def set_label(self, label: str) -> None:
        """What is going on instead."""
        self._progress.update(self._task, description=label)


def _width(console: Console) -> int | None:
    return max(console.width, WIDTH_MIN) if console.is_terminal else None


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from error


def _escape_controls(text: str | Text) -> str | Text:
    if isinstance(text, str):
        return layout.escape_controls(text)
    # One character for one: styles stay where they are.
    text.plain = layout.escape_controls(text.plain)
    return text


def _style(cells: Sequence[str]) -> Text:
    # Never a string with markup in it: titles may look like markup.
    *whole, aside = cells
    line = Text(GAP).join(Text(cell, style=STYLES.get(cell.strip(), "")) for cell in whole)
    if aside:
        line.append(GAP + aside, style="dim")
    line.rstrip()
    return line
