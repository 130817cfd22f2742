"""One whole stack, used by the `aquifer` command and by events."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aquifer_cli.endpoints import Endpoints, find
from stack.up import Stack

COMMAND_S = 180


class RunningStack(Stack):
    """A stack and its command line."""

    @property
    def folder(self) -> Path:
        return self.data.path

    @property
    def endpoints(self) -> Endpoints:
        return find(self.folder)

    def run(
        self, *arguments: str, data: Path | None = None, typed: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`aquifer ARGUMENTS` in a process of its own, with `typed` as its standard input."""
        return subprocess.run(
            [sys.executable, "-m", "aquifer_cli", *arguments],
            env={**os.environ, "AQUIFER_HOME": str(data or self.folder)},
            input=typed,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    def json(self, *arguments: str, typed: str | None = None) -> list[dict[str, Any]]:
        """`aquifer ARGUMENTS --json`: one object a line."""
        done = self.run(*arguments, "--json", typed=typed)
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="session")
def stack() -> Iterator[RunningStack]:
    """A stack whose parts are all ready."""
    with tempfile.TemporaryDirectory(prefix="aquifer-e2e-", ignore_cleanup_errors=True) as folder:
        with RunningStack(Path(folder) / "data") as stack:
            stack.start()
            yield stack
