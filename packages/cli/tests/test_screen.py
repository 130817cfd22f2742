"""Progress as it is drawn."""

from itertools import count
from time import monotonic

from rich.progress import Progress

from aquifer_cli.screen import STILL_S, _Left


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
