"""`python -m auth migrate`, `bootstrap` and `service-key`, as an operator runs them."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import DictRow

from aquifer.auth.v1.auth_events_pb2 import TenantCreated
from auth.keys import KeyText
from testkit.servers import TestDatabase

PEPPER = "1:integration-pepper-of-32-characters"
TIMEOUT_S = 30


def run(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment: Mapping[str, str] = {
        "PATH": os.environ["PATH"],
        **{f"AQUIFER_{name}": value for name, value in settings.items()},
    }
    return subprocess.run(
        [sys.executable, "-m", "auth", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def bootstrap(
    tables: TestDatabase, output: Path, tenant: str = "default"
) -> "subprocess.CompletedProcess[str]":
    return run(
        *("bootstrap", "--tenant", tenant, "--display-name", "First", "--output", str(output)),
        POSTGRES_DSN=tables.dsn("auth"),
        AUTH_PEPPER=PEPPER,
    )


def counted(everything: psycopg.Connection[DictRow]) -> tuple[int, int]:
    row = everything.execute(
        "SELECT (SELECT count(*) FROM tenants) AS tenants, (SELECT count(*) FROM keys) AS keys"
    ).fetchone()
    assert row is not None
    return row["tenants"], row["keys"]


def test_bootstrap_writes_the_first_keys_once(
    tables: TestDatabase, everything: psycopg.Connection[DictRow], tmp_path: Path
) -> None:
    output = tmp_path / "keys.json"
    first = bootstrap(tables, output)
    assert first.returncode == 0, first.stderr
    kept = json.loads(output.read_text())
    assert set(kept) == {"tenant", "api_key", "service_keys"}
    assert kept["tenant"] == "default"
    assert set(kept["service_keys"]) == {"ingest", "query", "inference"}
    texts = [kept["api_key"], *kept["service_keys"].values()]
    assert all(KeyText.parse(text) for text in texts)
    assert len(set(texts)) == 4
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert counted(everything) == (2, 4)

    again = bootstrap(tables, tmp_path / "more.json", tenant="another")
    assert again.returncode == 2
    assert "ALREADY_FOUNDED" in again.stderr
    assert not (tmp_path / "more.json").exists()
    assert counted(everything) == (2, 4)

    said = first.stdout + first.stderr + again.stdout + again.stderr
    assert not any(text.split("_")[2] in said for text in texts)


def test_bootstrap_announces_its_tenants(
    tables: TestDatabase, everything: psycopg.Connection[DictRow], tmp_path: Path
) -> None:
    assert bootstrap(tables, tmp_path / "keys.json").returncode == 0
    rows = everything.execute("SELECT subject, payload FROM outbox ORDER BY outbox_id").fetchall()
    assert [row["subject"] for row in rows] == [
        "aquifer.auth.v1.TenantCreated.system",
        "aquifer.auth.v1.TenantCreated.default",
    ]
    assert TenantCreated.FromString(rows[1]["payload"]) == TenantCreated(
        tenant="default", display_name="First"
    )


def test_bootstraps_side_by_side_make_one_beginning(
    tables: TestDatabase, everything: psycopg.Connection[DictRow], tmp_path: Path
) -> None:
    outputs = [tmp_path / f"{number}.json" for number in range(3)]
    with ThreadPoolExecutor() as threads:
        done = list(threads.map(lambda output: bootstrap(tables, output), outputs))
    assert sorted(one.returncode for one in done) == [0, 2, 2]
    assert sum(output.exists() for output in outputs) == 1
    assert counted(everything) == (2, 4)


def test_bootstrap_never_overwrites(
    tables: TestDatabase, everything: psycopg.Connection[DictRow], tmp_path: Path
) -> None:
    output = tmp_path / "keys.json"
    output.write_text("precious")
    refused = bootstrap(tables, output)
    assert refused.returncode == 1
    assert "FileExistsError" in refused.stderr
    assert output.read_text() == "precious"
    assert counted(everything) == (0, 0)


def test_bootstrap_without_a_place_for_the_keys_changes_nothing(
    tables: TestDatabase, everything: psycopg.Connection[DictRow], tmp_path: Path
) -> None:
    refused = bootstrap(tables, tmp_path / "nowhere" / "keys.json")
    assert refused.returncode == 1
    assert "nowhere" in refused.stderr
    assert counted(everything) == (0, 0)


def service_key(
    tables: TestDatabase, output: Path, service: str = "query"
) -> "subprocess.CompletedProcess[str]":
    return run(
        *("service-key", "--service", service, "--output", str(output)),
        POSTGRES_DSN=tables.dsn("auth"),
        AUTH_PEPPER=PEPPER,
    )


def test_service_key_is_a_further_one_and_the_others_go_on(
    tables: TestDatabase, everything: psycopg.Connection[DictRow], tmp_path: Path
) -> None:
    assert bootstrap(tables, tmp_path / "keys.json").returncode == 0
    output = tmp_path / "query.key"
    done = service_key(tables, output)
    assert done.returncode == 0, done.stderr
    text = KeyText.parse(output.read_text().strip())
    assert text is not None
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert text.key_id in done.stdout
    assert text.secret not in done.stdout + done.stderr
    rows = everything.execute(
        "SELECT key_id, tenant_id, scopes, revoked_at, expires_at - created_at AS lasts FROM keys"
        " WHERE principal = 'query' ORDER BY created_at"
    ).fetchall()
    assert [row["tenant_id"] for row in rows] == ["system"] * 2
    assert [row["lasts"].days for row in rows] == [365] * 2
    assert [row["scopes"] for row in rows] == [["internal", "models"]] * 2
    assert {row["revoked_at"] for row in rows} == {None}
    assert rows[1]["key_id"] == text.key_id
    assert counted(everything) == (2, 5)


def test_service_key_never_overwrites(
    tables: TestDatabase, everything: psycopg.Connection[DictRow], tmp_path: Path
) -> None:
    assert bootstrap(tables, tmp_path / "keys.json").returncode == 0
    output = tmp_path / "query.key"
    output.write_text("precious")
    refused = service_key(tables, output)
    assert (refused.returncode, output.read_text()) == (1, "precious")
    assert "FileExistsError" in refused.stderr
    assert counted(everything) == (2, 4)


def test_service_key_needs_a_platform_and_one_of_its_services(
    tables: TestDatabase, everything: psycopg.Connection[DictRow], tmp_path: Path
) -> None:
    output = tmp_path / "query.key"
    early = service_key(tables, output)
    assert early.returncode == 1
    assert "NOT_FOUNDED" in early.stderr
    unknown = service_key(tables, output, service="auth")
    assert unknown.returncode == 2
    assert "invalid choice" in unknown.stderr
    assert not output.exists()
    assert counted(everything) == (0, 0)


@pytest.mark.parametrize("tenant", ["system", "Not An Id", ""])
def test_bootstrap_refuses_impossible_tenants(
    tables: TestDatabase, tmp_path: Path, tenant: str
) -> None:
    refused = bootstrap(tables, tmp_path / "keys.json", tenant=tenant)
    assert refused.returncode == 1
    assert "TENANT_" in refused.stderr


def test_settings_are_asked_for_by_name_and_never_shown(tables: TestDatabase) -> None:
    refused = run("bootstrap", "--tenant", "t", "--output", "x", AUTH_PEPPER="too-short-secret")
    assert refused.returncode == 1
    assert "postgres_dsn" in refused.stderr
    assert "too-short-secret" not in refused.stdout + refused.stderr


@pytest.mark.parametrize(
    ("changed", "reason"),
    [("AUTH_PEPPER", "PEPPER_INVALID"), ("AUTH_SIGNING_KEY", "SIGNING_KEY_INVALID")],
)
def test_useless_secrets_end_the_service_before_it_begins(
    signing_key: str, changed: str, reason: str
) -> None:
    settings = {
        "NATS_URL": "nats://127.0.0.1:1",
        "NATS_USER": "auth",
        "NATS_PASSWORD": "x",
        "POSTGRES_DSN": "postgresql://127.0.0.1:1/aquifer",
        "AUTH_PEPPER": PEPPER,
        "AUTH_SIGNING_KEY": signing_key,
    }
    ended = run("serve", **settings | {changed: "not-very-secret"})
    assert ended.returncode == 1
    assert reason in ended.stderr
    assert "not-very-secret" not in ended.stdout + ended.stderr


def test_migrate_is_idempotent(tables: TestDatabase) -> None:
    done = run("migrate", POSTGRES_DSN=tables.dsn("auth_owner"))
    assert (done.returncode, done.stdout) == (0, "")
