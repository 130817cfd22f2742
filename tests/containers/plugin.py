"""Puts a server in a container in the place of the testkit's own, for the run of one suite.

`pytest -p tests.containers.plugin --container nats SUITE...`
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from query.vectors.qdrant import open_client
from testkit.servers import TestBus, TestDatabase
from tests.containers.servers import QdrantServer, start_bus, start_database


class NatsFixtures:
    @pytest.fixture(scope="session")
    @classmethod
    def nats(cls, servers_folder: Path) -> Iterator[TestBus]:
        with start_bus(servers_folder) as bus:
            yield bus


class PostgresFixtures:
    @pytest.fixture(scope="session")
    @classmethod
    def postgres(cls, servers_folder: Path) -> Iterator[TestDatabase]:
        with start_database(servers_folder) as database:
            yield database


class QdrantClients:
    """Every client the conformance suite opens in memory is one of a server instead."""

    def __init__(self) -> None:
        self._held = ExitStack()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        server = QdrantServer()
        self._held.enter_context(server.running())
        for module in {item.module for item in session.items}:
            module.AsyncQdrantClient = lambda _: open_client(server.url, grpc_port=server.grpc_port)

    def pytest_sessionfinish(self) -> None:
        self._held.close()


PLACES = {"nats": NatsFixtures, "postgres": PostgresFixtures, "qdrant": QdrantClients}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--container", choices=PLACES, required=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    # Registered after the testkit's own plugin: of two fixtures of a name the later one counts.
    place = PLACES[session.config.getoption("--container")]
    session.config.pluginmanager.register(place())
