"""A small stack in a process of its own, so that a test can kill its supervisor.

    python small_stack.py DIR [fragile] [silent] [climber] [small]

It prints one JSON object a line: what happens to a part, and what runs once all serve.
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

from chassis.base.errors import ServiceError
from stack.data_dir import DataDir
from stack.guardian import Guardian
from stack.nats import Nats, NatsUser
from stack.part import Part
from stack.postgres import Postgres
from stack.processes import Command
from stack.supervisor import (
    Backoff,
    Notice,
    Patience,
    StopRequest,
    StopRequestedError,
    Supervisor,
)
from stack.trees import descendants

# Ignores SIGTERM and has a child in another session.
_FAMILY = "trap '' TERM; setsid sleep 600 & while true; do sleep 0.05; done"
_SLEEPING = "exec sleep 600"
# Ends at once with an error message.
_FRAGILE = "echo broken; exit 3"


class Family(Part):
    """A program that ignores SIGTERM and has a child in another session."""

    grace_s = 0.5

    def __init__(self, name: str, script: str, guardian: Guardian, folder: Path) -> None:
        super().__init__(name, guardian=guardian, log=folder / f"{name}.log")
        self._script = script
        self._folder = folder

    @property
    def address(self) -> str:
        return self.name

    def command(self) -> Command:
        return Command(
            argv=("/bin/sh", "-c", self._script),
            environment={"PATH": "/usr/bin:/bin"},
            folder=self._folder,
            log=self.log,
        )

    def find_problem(self) -> str:
        there = self.pid is not None and len(descendants(self.pid)) >= 1
        return "" if there else "no child yet"


class Silent(Family):
    """Runs, writes nothing, and is never ready."""

    start_s = 0.5

    def find_problem(self) -> str:
        return "never ready"


class Climber(Silent):
    """Takes longer than a part may, but makes progress."""

    looks = 0

    def find_problem(self) -> str:
        self.looks += 1
        return "" if self.looks > 100 else f"{self.looks} of 100 looks"

    def progress(self) -> int:
        return self.looks


def say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def notice(each: Notice) -> None:
    say(event=each.event, part=each.part, detail=each.detail)


def main(path: Path, *options: str) -> None:
    with StopRequest() as stop, ExitStack() as held:
        data = held.enter_context(DataDir(path))
        guardian = held.enter_context(Guardian(keep_open=(data.lock,), grace_s=1))
        supervisor = Supervisor(
            guardian=guardian,
            say=notice,
            stop=stop,
            backoff=Backoff(first_s=0.05, longest_s=0.2),
            patience=Patience(every_s=0.1, misses_max=2),
            alone=True,
        )
        held.callback(supervisor.stop)
        nats = Nats(
            data.path / "nats",
            users=[NatsUser(name="a", password="b", publish=(">",), subscribe=(">",))],
            guardian=guardian,
            then=lambda: say(event="provisioned", part="nats", detail=""),
        )
        postgres = Postgres(data.path / "postgres", password="secret", guardian=guardian)
        family = Family("family", _FAMILY, guardian, data.path)
        parts: list[Part] = [nats, family] if "small" in options else [nats, postgres, family]
        if "fragile" in options:
            parts.append(Family("fragile", _FRAGILE, guardian, data.path))
        if "silent" in options:
            parts.append(Silent("silent", _SLEEPING, guardian, data.path))
        if "climber" in options:
            parts.append(Climber("climber", _SLEEPING, guardian, data.path))
        try:
            supervisor.start(*parts)
        except StopRequestedError:
            say(event="cut short")
            return
        except ServiceError as error:
            say(event="failed", reason=error.reason, detail=error.detail)
            return
        say(
            event="all up",
            pids={part.name: part.pid for part in parts} | {"guardian": guardian.pid},
            descendants=sorted({pid for part in parts for pid in descendants(part.pid or 0)}),
            ports=[nats.port, nats.monitor_port, postgres.port],
        )
        supervisor.watch()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
