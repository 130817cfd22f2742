"""Access to Postgres for all services: transactions of one tenant, or sweeps across tenants."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib import resources
from importlib.resources.abc import Traversable

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from chassis.base.cancellation import raise_if_cancelled
from chassis.base.errors import ConflictError, OverloadedError, UnavailableError
from chassis.base.labels import held_labels
from chassis.base.tenants import tenant_deleted_error

POOL_WAIT_S = 5.0
ANSWER_S = 2.0
# What has just worked needs no question.
ANSWERED_RECENTLY_S = 1.0
STATEMENT_TIMEOUT_MS = 30_000
MIGRATION_LOCK = 4_711
# Raised by the function `enter_tenant` of the schema.
TENANT_DELETED_STATE = "AQ001"

Transaction = psycopg.AsyncConnection[DictRow]


class Database:
    """A connection pool whose transactions have time limits and belong to one tenant.

    Raises in every method:
        UnavailableError: DATABASE_UNAVAILABLE, the server is unreachable or has no free connection.
        ConflictError: DATABASE_CONFLICT, a deadlock or serialization failure; retry.
        OverloadedError: DATABASE_FULL, its disk is full.
    """

    def __init__(self, pool: AsyncConnectionPool[Transaction], service: str) -> None:
        self._pool = pool
        self._begin_sweep = sql.SQL("BEGIN; SET LOCAL ROLE {}").format(
            sql.Identifier(f"{service}_sweeper")
        )
        self._begin_asynchronous_sweep = sql.SQL("{}; SET LOCAL synchronous_commit = off").format(
            self._begin_sweep
        )
        self._question: asyncio.Task[bool] | None = None
        self._answered_at = -ANSWERED_RECENTLY_S

    @asynccontextmanager
    async def transaction(self, tenant: str) -> AsyncIterator[Transaction]:
        """A transaction that can read and write the rows of one tenant only.

        In a call whose sender does not hold all labels, the policies of labelled tables show it
        only rows without labels, or with one that it holds. The setting begins with a comma, so
        that no labels differ from all.
        """
        async with self._begin(_bind(tenant)) as connection:
            yield connection

    @asynccontextmanager
    async def enter(self, tenant: str) -> AsyncIterator[Transaction]:
        """As `transaction`, unless the tenant is deleted; it is not deleted until the end.

        Raises:
            TenantDeletedError: it is deleted.
        """
        entered = sql.SQL("; SELECT enter_tenant({})").format(sql.Literal(tenant))
        async with self._begin(_bind(tenant) + entered) as connection:
            yield connection

    @asynccontextmanager
    async def remove(self, tenant: str) -> AsyncIterator[Transaction]:
        """As `transaction`, also of a deleted tenant; waits until it is the only one inside."""
        bound = sql.SQL(
            "BEGIN; SET LOCAL app.tenant = {0};"
            " SELECT pg_advisory_xact_lock(hashtextextended('tenant/' || {0}, 0))"
        )
        async with self._begin(bound.format(sql.Literal(tenant))) as connection:
            yield connection

    @asynccontextmanager
    async def sweep(self, *, synchronous: bool = True) -> AsyncIterator[Transaction]:
        """A transaction across all tenants, for the relay, repairs and metrics.

        A sweep that is not `synchronous` does not wait for the disk: a crash of the server may
        undo it after its commit.
        """
        async with self._begin(
            self._begin_sweep if synchronous else self._begin_asynchronous_sweep
        ) as connection:
            yield connection

    @asynccontextmanager
    async def _begin(self, opening: sql.SQL | sql.Composed) -> AsyncIterator[Transaction]:
        """A transaction started by the statements `opening`, in one round trip."""
        with _translate_errors():
            connection = await self._open(opening)
            try:
                async with connection:  # commits, or rolls back; a pooled one is not closed
                    yield connection
                self._answered_at = time.monotonic()
            finally:
                await self._pool.putconn(connection)

    async def _open(self, opening: sql.SQL | sql.Composed) -> Transaction:
        """A connection on which `opening` has run, which proves that it still works.

        Connections of the pool that no longer work are discarded.
        """
        for _ in range(self._pool.max_size + 1):
            connection = await self._pool.getconn(POOL_WAIT_S)
            try:
                raise_if_cancelled()
                # Several statements in one string cannot be prepared.
                await connection.execute(opening, prepare=False)
            except BaseException as error:
                died = connection.closed and isinstance(error, psycopg.OperationalError)
                if isinstance(error, psycopg.DatabaseError) and _is_tenant_deleted(error):
                    await connection.rollback()
                await self._pool.putconn(connection)
                if not died:
                    raise
            else:
                return connection
        raise psycopg.OperationalError("no connection of the pool works")

    async def is_reachable(self) -> bool:
        """True if the server answers a trivial query within `ANSWER_S`, or has just answered one.

        If the server hangs, even a cancelled query would block. So the query keeps running,
        and a new one is sent only when it has ended.
        """
        if time.monotonic() - self._answered_at < ANSWERED_RECENTLY_S:
            return True
        if self._question is None:
            self._question = asyncio.get_running_loop().create_task(self._ask())
        done, _ = await asyncio.wait({self._question}, timeout=ANSWER_S)
        if not done:
            return False
        answer, self._question = self._question.result(), None
        return answer

    async def find_problem(self) -> str:
        """Why the process is not ready because of the database; empty if the database answers."""
        return "" if await self.is_reachable() else "database does not answer"

    async def _ask(self) -> bool:
        try:
            async with self._begin(sql.SQL("BEGIN")):
                pass
        except (UnavailableError, ConflictError, OverloadedError):
            return False
        return True


def _bind(tenant: str) -> sql.Composed:
    """Begins a transaction of a tenant, with the labels of the sender of the current call."""
    bound = sql.SQL("BEGIN; SET LOCAL app.tenant = {}").format(sql.Literal(tenant))
    if (held := held_labels()) is not None:
        listed = "".join(f",{label}" for label in sorted(held)) or ","
        bound += sql.SQL("; SET LOCAL app.labels = {}").format(sql.Literal(listed))
    return bound


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Converts errors of the driver to service errors."""
    try:
        with _translate_own_errors():
            yield
    except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected) as error:
        raise ConflictError("DATABASE_CONFLICT", "two transactions conflicted; retry") from error
    except psycopg.errors.DiskFull as error:
        raise OverloadedError(
            "DATABASE_FULL", "the disk of the database is full; free space", retry_after_s=30
        ) from error
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedColumn,
        psycopg.errors.UndefinedFunction,
    ) as error:
        raise UnavailableError(
            "SCHEMA_MISSING", "the schema is older than this software: run `migrate`"
        ) from error
    except (psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex):
        # The driver calls these operational errors, but the data is the cause.
        raise
    except (
        PoolTimeout,
        psycopg.OperationalError,
        psycopg.InterfaceError,
        psycopg.errors.IdleInTransactionSessionTimeout,
        psycopg.errors.TransactionTimeout,
        psycopg.errors.ReadOnlySqlTransaction,  # a former primary
    ) as error:
        raise UnavailableError(
            "DATABASE_UNAVAILABLE", "the database cannot be reached or has no free connection"
        ) from error


def _is_tenant_deleted(error: psycopg.DatabaseError) -> bool:
    return error.sqlstate == TENANT_DELETED_STATE


@contextmanager
def _translate_own_errors() -> Iterator[None]:
    """Converts errors that functions of the schema raise."""
    try:
        yield
    except psycopg.DatabaseError as error:
        if _is_tenant_deleted(error):
            raise tenant_deleted_error() from error
        raise


@asynccontextmanager
async def open_database(dsn: str, service: str, pool_size: int) -> AsyncIterator[Database]:
    """A `Database` whose pool reconnects by itself; opening does not wait for the server."""
    pool = AsyncConnectionPool[Transaction](
        dsn,
        min_size=1,
        max_size=pool_size,
        open=False,
        timeout=POOL_WAIT_S,
        reconnect_timeout=2.0,
        kwargs={
            "autocommit": True,  # `Database` begins its transactions itself
            "row_factory": dict_row,
            "application_name": f"aquifer-{service}",
            "connect_timeout": 3,
            # Detects within half a minute that a server is gone without closing.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            "options": (
                f"-c statement_timeout={STATEMENT_TIMEOUT_MS}"
                " -c idle_in_transaction_session_timeout=60000 -c synchronous_commit=on"
            ),
        },
    )
    await pool.open(wait=False)
    try:
        yield Database(pool, service)
    finally:
        await pool.close(timeout=5)


def migrate(dsn: str, service: str, packages: Sequence[str] = ()) -> list[str]:
    """Applies the missing migrations of the chassis and the service; can be repeated.

    `dsn` is the address for the owner role. Files are `migrations/NNNN_verb_noun.sql` of `packages`
    (by default `chassis` and the package of the service), plain SQL in which `{service}` is
    replaced by the role name. Returns the names of the applied files.
    """
    applied = []
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        known = {row[0] for row in connection.execute("SELECT name FROM schema_migrations")}
        for package in packages or ("chassis", service):
            for file in _migrations(package):
                name = f"{package}/{file.name}"
                if name not in known:
                    statement = file.read_text().replace("{service}", service)
                    connection.execute(statement.encode())
                    connection.execute("INSERT INTO schema_migrations (name) VALUES (%s)", [name])
                    applied.append(name)
    return applied


def _migrations(package: str) -> list[Traversable]:
    folder = resources.files(package) / "migrations"
    return sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
