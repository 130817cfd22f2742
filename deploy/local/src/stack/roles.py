"""Roles and schemas of the database `aquifer`: one schema and three roles per service.

`<service>_owner` owns the schema and migrates it. `<service>` reads and writes rows; it owns no
table and bypasses no policy. `<service>_sweeper` works across tenants; `<service>` can only use it
with an explicit SET ROLE.
"""

from collections.abc import Mapping

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from aquifer import services
from chassis.base.errors import UnavailableError

DATABASE = "aquifer"
SERVICES = services.WITH_TABLES
LOGINS = tuple(name for service in SERVICES for name in (service, f"{service}_owner"))
STATEMENT_S = 30
MIGRATION_STATEMENT_S = 600
IDLE_IN_TRANSACTION_S = 60
_INHERIT_OPTION_SINCE = 160_000
_POWERLESS = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"


def prepare(superuser_dsn: str, passwords: Mapping[str, str]) -> None:
    """Creates or corrects the database, its schemas and roles; can be repeated.

    Args:
        superuser_dsn: address for a superuser, with any database of the cluster.
        passwords: one for each name in `LOGINS`; they replace existing ones.

    Raises:
        UnavailableError: DATABASE_UNAVAILABLE; retry.
    """
    try:
        with psycopg.connect(superuser_dsn, autocommit=True) as connection:
            _prepare_databases(connection)
        with psycopg.connect(make_conninfo(superuser_dsn, dbname=DATABASE)) as connection:
            connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            for service in SERVICES:
                _prepare_roles(connection, service, passwords)
                _prepare_schema(connection, service)
    except psycopg.OperationalError as error:
        raise UnavailableError("DATABASE_UNAVAILABLE", f"roles not prepared: {error}") from error


def _prepare_databases(connection: psycopg.Connection) -> None:
    if not _exists(connection, "pg_database", "datname", DATABASE):
        _run(connection, "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", DATABASE)
    for database in (DATABASE, "postgres", "template1"):
        _run(connection, "REVOKE ALL ON DATABASE {} FROM PUBLIC", database)


def _prepare_roles(
    connection: psycopg.Connection, service: str, passwords: Mapping[str, str]
) -> None:
    owner, sweeper = f"{service}_owner", f"{service}_sweeper"
    for role in (service, owner, sweeper):
        if not _exists(connection, "pg_roles", "rolname", role):
            _run(connection, "CREATE ROLE {}", role)
        login = "NOLOGIN" if role == sweeper else "LOGIN"
        # NOINHERIT: the policies of the sweeper must apply only after SET ROLE.
        _run(connection, f"ALTER ROLE {{}} {login} NOINHERIT {_POWERLESS}", role)
        _run(connection, "ALTER ROLE {} SET search_path TO {}", role, service)
    for role in (service, owner):
        _set_password(connection, role, passwords[role])
        _run(connection, "GRANT CONNECT ON DATABASE {} TO {}", DATABASE, role)
        limits = {
            "statement_timeout": MIGRATION_STATEMENT_S if role == owner else STATEMENT_S,
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_S,
        }
        for setting, seconds in limits.items():
            _run(connection, f"ALTER ROLE {{}} SET {setting} TO '{seconds}s'", role)
    newer = connection.info.server_version >= _INHERIT_OPTION_SINCE
    option = " WITH INHERIT FALSE, SET TRUE" if newer else ""
    _run(connection, f"GRANT {{}} TO {{}}{option}", sweeper, service)


def _prepare_schema(connection: psycopg.Connection, service: str) -> None:
    owner, sweeper = f"{service}_owner", f"{service}_sweeper"
    _run(connection, "CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}", service, owner)
    _run(connection, "REVOKE ALL ON SCHEMA {} FROM PUBLIC", service)
    for role in (service, sweeper):
        _run(connection, "GRANT USAGE ON SCHEMA {} TO {}", service, role)
        for grant in (
            "SELECT, INSERT, UPDATE, DELETE ON TABLES",
            "USAGE, SELECT ON SEQUENCES",
        ):
            _run(
                connection,
                f"ALTER DEFAULT PRIVILEGES FOR ROLE {{}} IN SCHEMA {{}} GRANT {grant} TO {{}}",
                *(owner, service, role),
            )


def _set_password(connection: psycopg.Connection, role: str, password: str) -> None:
    """Sends only the verifier, so that no statement or log contains the password."""
    verifier = connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    ).decode()
    connection.execute(
        sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
    )


def _exists(connection: psycopg.Connection, catalog: str, column: str, name: str) -> bool:
    query = sql.SQL("SELECT 1 FROM {} WHERE {} = %s").format(
        sql.Identifier(catalog), sql.Identifier(column)
    )
    return connection.execute(query, (name,)).fetchone() is not None


def _run(connection: psycopg.Connection, statement: str, *names: str) -> None:
    """Runs a statement with names of roles and schemas in place of its braces."""
    connection.execute(sql.SQL(statement).format(*(sql.Identifier(name) for name in names)))
