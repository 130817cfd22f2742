"""Folders and a guardian for real servers."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.guardian import Guardian


def new_folder() -> Path:
    """Not pytest's own: PostgreSQL, started by root, runs as a user who may not pass through it."""
    return Path(tempfile.mkdtemp(prefix="aquifer-stack-"))


@pytest.fixture
def folder() -> Iterator[Path]:
    path = new_folder()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    path = new_folder()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def guardian() -> Iterator[Guardian]:
    with Guardian() as found:
        yield found
