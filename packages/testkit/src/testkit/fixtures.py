"""Pytest fixtures for `testkit.servers`; load them with `pytest_plugins = ["testkit.fixtures"]`."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.guardian import Guardian
from testkit.servers import TestBus, TestDatabase, start_bus, start_database


@pytest.fixture(scope="session")
def guardian(servers_folder: Path) -> Iterator[Guardian]:
    """Ends all servers when the test run ends, for any reason."""
    with Guardian() as guardian:
        yield guardian


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """The folder for server data; other users must be able to enter it, unlike pytest's folder."""
    with tempfile.TemporaryDirectory(prefix="aquifer-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def nats(servers_folder: Path, guardian: Guardian) -> Iterator[TestBus]:
    """One broker for the test run."""
    with start_bus(servers_folder, guardian) as bus:
        yield bus


@pytest.fixture
def bus(nats: TestBus) -> TestBus:
    """The broker of the test run, with new, empty streams."""
    asyncio.run(nats.reset())
    return nats


@pytest.fixture(scope="session")
def postgres(servers_folder: Path, guardian: Guardian) -> Iterator[TestDatabase]:
    """One PostgreSQL for the test run, without tables; use `migrate` and `clear`."""
    with start_database(servers_folder, guardian) as database:
        yield database
