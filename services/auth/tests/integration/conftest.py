"""A registry on a real PostgreSQL, with empty tables."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from auth.store import PostgresRegistry
from chassis.base.postgres import Database, open_database
from chassis.events.bound import BoundClient
from chassis.events.bus import Bus
from chassis.events.outbox import Outbox
from chassis.events.work import Transactions
from testkit.servers import TestDatabase


@pytest.fixture(scope="session")
def migrated(postgres: TestDatabase) -> TestDatabase:
    postgres.migrate("auth")
    return postgres


@pytest.fixture
def tables(migrated: TestDatabase) -> TestDatabase:
    migrated.clear("auth")
    return migrated


@pytest.fixture
async def database(tables: TestDatabase) -> AsyncIterator[Database]:
    async with open_database(tables.dsn("auth"), "auth", 4) as database:
        yield database


@pytest.fixture
async def stored(database: Database) -> PostgresRegistry:
    unconnected = asyncio.create_task(asyncio.sleep(0))
    await unconnected
    outbox = Outbox(database, Bus(BoundClient(), unconnected), "auth")
    return PostgresRegistry(Transactions(database, outbox))


@pytest.fixture
def everything(tables: TestDatabase) -> Iterator[psycopg.Connection[DictRow]]:
    """A connection no policy binds."""
    with psycopg.connect(
        tables.superuser_dsn, autocommit=True, row_factory=dict_row, options="-c search_path=auth"
    ) as connection:
        yield connection
