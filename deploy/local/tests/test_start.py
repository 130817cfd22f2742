"""What keeps a start short, and what it shows when it is long."""

import subprocess
import sys
from pathlib import Path

import pytest

from stack.guardian import Guardian
from stack.part import Part
from stack.processes import Command
from stack.slow_start import SlowStart
from stack.supervisor import Notice, Waiting

PARTS = ("stack", "stack.sink", "query.vectors", "auth", "ingest", "query", "inference")
# Libraries that cost much to import and are needed for something else.
ELSEWHERE = {"qdrant_client", "hypothesis", "pytest", "openvino.torch", "torch"}

UNCOMPILED = """
import importlib, os, sys
importlib.import_module(sys.argv[1] + ".__main__" if "." not in sys.argv[1] else sys.argv[1])
for name, module in list(sys.modules.items()):
    file, cached = getattr(module, "__file__", None), getattr(module, "__cached__", None)
    installed = file and "site-packages" in file and file.endswith(".py")
    if installed and cached and not os.path.exists(cached):
        print("uncompiled", name)
    print("imported", name)
"""


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_libraries_compiled_and_none_for_another_job(part: str):
    done = subprocess.run(
        [sys.executable, "-c", UNCOMPILED, part], capture_output=True, text=True, check=True
    )
    said = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert [name for kind, name in said if kind == "uncompiled"] == []
    assert {name for _, name in said} & ELSEWHERE == set()


class Rebuilding(Part):
    """Never started: only its state counts here."""

    def __init__(self, name: str, guardian: Guardian, done: int) -> None:
        super().__init__(name, guardian=guardian, log=Path("nowhere"))
        self.done = done

    @property
    def address(self) -> str:
        return self.name

    def command(self) -> Command:
        raise AssertionError("this part is never started")

    def find_problem(self) -> str:
        return f"{self.done} of 9"

    def progress(self) -> int:
        return self.done


def test_addresses_are_published_once_while_only_a_rebuild_is_left(guardian: Guardian):
    said: list[Notice] = []
    published: list[int] = []
    stuck, rebuilding = Rebuilding("stuck", guardian, 0), Rebuilding("query", guardian, 3)
    slow = SlowStart(said.append, lambda: published.append(1))
    slow([Waiting(stuck, stuck.find_problem()), Waiting(rebuilding, rebuilding.find_problem())])
    assert (said, published) == ([], [])
    slow([Waiting(rebuilding, rebuilding.find_problem())])
    slow([Waiting(rebuilding, rebuilding.find_problem())])
    slow([])
    assert published == [1]
    assert said == [Notice("query", "waiting", "3 of 9")]


def test_a_slow_start_says_what_it_waits_for(guardian: Guardian, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stack.slow_start.SAY_EVERY_S", 0.0)
    said: list[Notice] = []
    slow = SlowStart(said.append, lambda: pytest.fail("nothing can be served yet"))
    stuck = Rebuilding("inference", guardian, 0)
    slow([Waiting(stuck, "nothing listens on 127.0.0.1:1 yet")])
    assert said == [Notice("inference", "waiting", "nothing listens on 127.0.0.1:1 yet")]
