"""The stages of a search: each is a span of its trace, and is timed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry import trace

from chassis.base.telemetry import TRACER_NAME
from query.domain import StageTime


@dataclass(slots=True)
class Stage:
    """A running stage; it sets the number of passages after it, if it yields any."""

    passages: int | None = None


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of one search that have ended, in their order."""

    ended: list[StageTime] = field(default_factory=list)

    @contextmanager
    def run(self, name: str) -> Iterator[Stage]:
        """Runs a stage in a span of this name."""
        stage, started = Stage(), time.perf_counter()
        with trace.get_tracer(TRACER_NAME).start_as_current_span(name) as span:
            yield stage
            if stage.passages is not None:
                span.set_attribute("aquifer.passages", stage.passages)
        seconds = time.perf_counter() - started
        self.ended.append(StageTime(name=name, seconds=seconds, passages=stage.passages))
