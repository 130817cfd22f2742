"""Pytest fixtures around `testkit.servers`; `pytest_plugins = ["testkit.fixtures"]` brings them."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.guardian import Guardian
from testkit.servers import TestBus, TestDatabase, start_bus, start_database


@pytest.fixture(scope="session")
def guardian(servers_folder: Path) -> Iterator[Guardian]:
    """Ends every server of the run however the run ends."""
    with Guardian() as guardian:
        yield guardian


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """Where servers keep their data; not pytest's own folder, which only its owner may enter."""
    with tempfile.TemporaryDirectory(prefix="aquifer-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def nats(servers_folder: Path, guardian: Guardian) -> Iterator[TestBus]:
    """One broker for the run."""
    with start_bus(servers_folder, guardian) as bus:
        yield bus


@pytest.fixture
def bus(nats: TestBus) -> TestBus:
    """The broker of the run with fresh, empty streams."""
    asyncio.run(nats.reset())
    return nats


@pytest.fixture(scope="session")
def postgres(servers_folder: Path, guardian: Guardian) -> Iterator[TestDatabase]:
    """One PostgreSQL for the run, without tables; `migrate` and `truncate` as needed."""
    with start_database(servers_folder, guardian) as database:
        yield database
