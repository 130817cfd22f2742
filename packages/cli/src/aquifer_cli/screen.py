"""Output: tables and progress for people, one JSON object per line for programs."""

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
GIVEN_S = 10.0
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
    """A console that raises BrokenPipeError, which `main` handles.

    The library would end the process, even inside an event loop.
    """

    def on_broken_pipe(self) -> None:  # type: ignore[explicit-override]
        raise BrokenPipeError


class Screen:
    """The output of a command: results on stdout, everything else on stderr."""

    def __init__(self, *, machine: bool) -> None:
        self.machine = machine
        self._out = _Terminal(highlight=False, soft_wrap=True)
        self._err = _Terminal(stderr=True, highlight=False, soft_wrap=True)

    @property
    def width(self) -> int | None:
        """The width of a line in cells; None if stdout is not a terminal."""
        return _width(self._out)

    @property
    def animated(self) -> bool:
        """True if progress is visible."""
        return not self.machine and self._err.is_terminal

    def record(self, value: Mapping[str, object]) -> None:
        """Writes one JSON object on one line."""
        plain = sys.stdout.encoding.lower().replace("-", "") != "utf8"
        with _translate_errors():
            sys.stdout.write(json.dumps(value, ensure_ascii=plain) + "\n")
            sys.stdout.flush()

    def write(self, text: str) -> None:
        """Writes text as it is, in UTF-8; to a terminal without terminal control characters."""
        with _translate_errors():
            if self._out.is_terminal:
                sys.stdout.write("\t".join(map(layout.escape_controls, text.split("\t"))))
            else:
                sys.stdout.buffer.write(text.encode())
            sys.stdout.flush()

    def say(self, text: str | Text = "", *, style: str = "") -> None:
        """Prints a line for people, without terminal control characters."""
        if not self.machine:
            with _translate_errors():
                self._out.print(_escape_controls(text), style=style, markup=False)

    def fill(self, text: str, indent: str = "", *, style: str = "") -> None:
        """Prints text for people, wrapped between words."""
        for line in layout.fill(text, self.width, indent):
            self.say(line, style=style)

    def flow(self, indent: str = "") -> Flow:
        """Prints text for people that arrives in pieces."""

        def write(piece: str) -> None:
            if not self.machine:
                with _translate_errors():
                    self._out.print(layout.escape_controls(piece), end="", markup=False)

        return Flow(write, self.width, indent)

    def note(self, text: str, indent: str = "") -> None:
        """Prints a line that is not part of the result."""
        if not self.machine:
            self._write_aside(spell_commands(text), "dim", indent)

    def fail(self, text: str, hint: str) -> None:
        """Prints what is wrong and what to do next."""
        self._write_aside(text, "red")
        self._write_aside(spell_commands(hint), "dim")

    def _write_aside(self, text: str, style: str, indent: str = "") -> None:
        for paragraph in text.splitlines():
            for line in layout.fill(paragraph, _width(self._err), indent):
                self._err.print(_escape_controls(line), style=style, markup=False)

    def table(self, head: Sequence[str], rows: Sequence[Row]) -> None:
        """Prints a table; nothing if it has no rows."""
        if not rows or self.machine:
            return
        first, *lines = layout.table(head, rows, self.width)
        self.say(GAP.join(first).rstrip(), style="bold")
        for row, cells in zip(rows, lines, strict=True):
            self.say(_style(cells))
            if row.below:
                self.fill(row.below, "    ", style="dim")

    @contextmanager
    def show_progress(self, **totals: int | None) -> Iterator[dict[str, "Bar"]]:
        """Shows a progress bar per total on stderr; nothing for programs or without a terminal.

        A total of None is unknown.
        """
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
        """Shows a spinner on stderr during work that cannot be counted."""
        if not self.animated:
            self.note(text)
            yield
            return
        with self._err.status(Text(text)):
            yield


class _Left(ProgressColumn):
    """The estimated time left; empty while there is no progress.

    An estimate that was given counts for `GIVEN_S`; without one it follows from the progress.
    """

    def render(self, task: Task) -> Text:  # type: ignore[explicit-override]
        given_s, given_at = task.fields.get("left", (0.0, float("-inf")))
        age_s = monotonic() - given_at
        left_s = max(given_s - age_s, 0.0) if age_s < GIVEN_S else task.time_remaining
        if left_s is None or task.finished or monotonic() - task.fields["moved"] > STILL_S:
            return Text()
        return Text(f"{timedelta(seconds=ceil(left_s))} left", style="progress.remaining")


class Bar:
    """A progress bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, count: int = 1) -> None:
        """Counts one more, or several."""
        self._progress.update(self._task, advance=count, moved=monotonic())

    def set_left(self, seconds: float) -> None:
        """Sets the estimated time left."""
        self._progress.update(self._task, left=(seconds, monotonic()))

    def set_count(self, count: int, total: int) -> None:
        """Shows a count that was read, of a total that may change."""
        self._progress.update(self._task, completed=count, total=total, moved=monotonic())

    def set_label(self, label: str) -> None:
        """Changes the label."""
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
    # Replaces single characters, so styles keep their positions.
    text.plain = layout.escape_controls(text.plain)
    return text


def _style(cells: Sequence[str]) -> Text:
    # Not a string with markup, because titles may look like markup.
    *whole, aside = cells
    line = Text(GAP).join(Text(cell, style=STYLES.get(cell.strip(), "")) for cell in whole)
    if aside:
        line.append(GAP + aside, style="dim")
    line.rstrip()
    return line
