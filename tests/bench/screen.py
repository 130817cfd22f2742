"""The figures as tables: for a terminal, and in Markdown for docs/measurements.md."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.bench.figures import Figure, Row
from tests.bench.machine import Machine


def show(machine: Machine, corpus: str, figures: Sequence[Figure], took_s: float) -> None:
    """One table for each figure, and what it was measured on."""
    console = Console(highlight=False)
    width = max(console.width, 140) if not console.is_terminal else console.width
    console = Console(highlight=False, width=width)
    console.print(f"{_machine(machine)}; {corpus}", markup=False)
    for figure in figures:
        console.print()
        console.print(_table(figure))
    console.print(f"\n{took_s:.0f} s in all", markup=False)
    if machine.noisy:
        console.print(
            "NOISY: others were at work before this run started; compare it with nothing",
            style="bold red",
        )


def markdown(
    machine: Machine, corpus: str, figures: Sequence[Figure], took_s: float
) -> Iterator[str]:
    """The same, line by line in Markdown; what could not be measured has empty cells."""
    yield f"{_machine(machine)}; {corpus}; {took_s:.0f} s in all."
    if machine.noisy:
        yield "**Noisy: others were at work before this run started; compare it with nothing.**"
    for figure in figures:
        yield f"\n### {figure.name}: {figure.title}\n"
        if figure.skipped:
            yield figure.skipped
            continue
        yield "| | value | spread | floor | ratio | aim | note |"
        yield "|---|--:|--:|--:|--:|--:|---|"
        for row in figure.rows:
            yield f"| {' | '.join(_texts(row))} |"


def _machine(machine: Machine) -> str:
    return (
        f"{machine.cores} cores, {machine.cpu}, {machine.memory_gib} GiB, Python {machine.python},"
        f" grpcio {machine.grpcio}; load before start {machine.load:.2f}"
    )


def _table(figure: Figure) -> Table | Text:
    title = f"{figure.name}: {figure.title}"
    if figure.skipped:
        return Text(f"{title}\n  {figure.skipped}", style="yellow")
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    table.add_column("")
    for name in ("value", "spread", "floor", "ratio", "aim"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note", style="dim")
    for row in figure.rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[Text]:
    style = {True: "green", False: "yellow", None: ""}[row.met]
    name, value, low_high, floor, ratio, aim, note = _texts(row)
    return [
        Text(name),
        Text(value, style=style),
        Text(low_high),
        Text(floor),
        Text(ratio, style=style),
        Text(aim, style=style),
        Text(note),
    ]


def _texts(row: Row) -> list[str]:
    low_high = f"{_number(row.spread[0])} .. {_number(row.spread[1])}" if row.spread else ""
    return [
        row.name,
        f"{_number(row.value)} {row.unit}".rstrip(),
        low_high,
        _number(row.floor),
        _number(row.ratio),
        str(row.aim or ""),
        row.note,
    ]


def _number(value: float | None) -> str:
    """Three or four digits that mean something."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
