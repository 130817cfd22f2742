"""A stack in a temporary folder, used through its public interface."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from aquifer_cli import endpoints
from aquifer_cli.endpoints import Endpoints
from stack.up import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStack:
    """A running stack and the addresses a client needs."""

    stack: Stack
    endpoints: Endpoints

    def chunk_texts(self, collection: str) -> list[str]:
        """Text of every chunk ingest has cut, in the order of the documents."""
        dsn = make_conninfo(self.stack.postgres.superuser_dsn, dbname="aquifer")
        with psycopg.connect(dsn) as connection:
            rows = connection.execute(
                "SELECT text FROM ingest.chunks WHERE starts_with(document, %s)"
                " ORDER BY document, version, ordinal",
                [f"collections/{collection}/"],
            ).fetchall()
        return [text for (text,) in rows]


@contextmanager
def make_folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="aquifer-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def run_stack(folder: Path, settings: Mapping[str, str]) -> Iterator[RunningStack]:
    """The whole stack in `folder`, with AQUIFER_* settings over the defaults."""
    with _environment(settings), Stack(folder) as stack:
        stack.start()
        yield RunningStack(stack=stack, endpoints=endpoints.find(folder))


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Parts inherit this process's environment when they start."""
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
