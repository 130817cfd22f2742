"""Progress as it is drawn."""

import os
import sys
from itertools import count
from time import monotonic

import pytest
from rich.progress import Progress

from aquifer_cli.interrupts import run_async
from aquifer_cli.screen import STILL_S, Screen, _Left


@pytest.mark.parametrize("write", ["say", "flow", "record"])
def test_a_reader_that_went_away_ends_the_work_inside_the_loop(monkeypatch, write):
    """As in `aquifer ask ... | head -1`: an exit from inside an event loop would leave a mess."""
    reading, writing = os.pipe()
    os.close(reading)

    async def show():
        screen = Screen(machine=write == "record")
        if write == "flow":
            screen.flow().add("a long answer\n" * 10_000)
        while True:
            screen.record({"a": 1}) if write == "record" else screen.say("a line")

    with pytest.raises(BrokenPipeError):
        with os.fdopen(writing, "w") as gone:
            monkeypatch.setattr(sys, "stdout", gone)
            run_async(show())


def test_time_left_is_told_only_while_something_moves():
    clock = count()
    progress = Progress(disable=True, get_time=lambda: float(next(clock)))
    progress.add_task("uploaded", total=10, moved=monotonic())
    [task] = progress.tasks
    assert _Left().render(task).plain == ""
    progress.update(task.id, advance=1)
    progress.update(task.id, advance=1)
    assert _Left().render(task).plain.endswith(" left")
    progress.update(task.id, moved=monotonic() - STILL_S - 1)
    assert _Left().render(task).plain == ""
