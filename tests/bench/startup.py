"""How long inference takes to be ready after a start, and what memory it takes."""

import time
from typing import Final

from tests.bench import processes
from tests.bench.figures import Aim, Figure, Row, median, spread
from tests.bench.running_stack import make_folder, run_stack

NAME = "startup"
TITLE = "start of inference with its built-in models"
STARTS: Final = 5
IDLE_S: Final = 3.0


def measure() -> Figure:
    """Kills the process and starts it again; its files are in the cache of the system."""
    with make_folder() as folder, run_stack(folder, {}) as running:
        part = running.stack.parts["inference"]
        ready_s, cpu_s, memories = [], [], []
        for _ in range(STARTS):
            part.kill()
            started = time.perf_counter()
            part.start()
            ready_s.append(time.perf_counter() - started)
            assert part.pid is not None
            cpu_s.append(processes.cpu_s(part.pid))
            time.sleep(IDLE_S)
            memories.append(processes.memory(part.pid).total)
    return Figure(
        name=NAME,
        title=TITLE,
        rows=[
            Row(
                name="ready after a start",
                value=median(ready_s),
                unit="s",
                spread=spread(ready_s),
                aim=Aim(sense="<=", limit=4),
            ),
            Row(name="CPU until then", value=median(cpu_s), unit="s", spread=spread(cpu_s)),
            Row(
                name="memory after the start",
                value=median(memories),
                unit="MiB",
                spread=spread(memories),
                aim=Aim(sense="<=", limit=350),
                note="PSS; before any work",
            ),
        ],
    )
