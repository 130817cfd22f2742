"""A tenant is deleted by the command; then no table, index or object of a whole stack has it."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from aquifer_cli.errors import EXIT_USAGE
from query.retrieval.vector_store import TenantScope
from query.vectors.engine_client import EngineVectors, open_channel
from stack import roles
from tests.faults.passing_tenant import TOMBSTONES, count_rows

pytestmark = pytest.mark.timeout(600)

TENANT = "short-lived"
TEXT = "The impeller of the secret pump turns at 1,450 revolutions per minute. "


@pytest.fixture(scope="module")
def rows(stack: Any) -> Iterator[psycopg.Connection]:
    """A connection to the database of all services that no policy binds."""
    dsn = make_conninfo(stack.postgres.superuser_dsn, dbname=roles.DATABASE)
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def run_as(stack: Any, api_key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    addresses = {
        f"AQUIFER_{name.upper()}_ADDRESS": address
        for name, address in stack.endpoints.services.items()
    }
    return subprocess.run(
        [sys.executable, "-m", "aquifer_cli", *arguments],
        env={**os.environ, **addresses, "AQUIFER_API_KEY": api_key},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def fill(stack: Any, folder: Any) -> str:
    """Documents, settings and an answer of the tenant; its key."""
    scopes = ("documents.write", "documents.read", "search", "ask")
    options = [part for scope in scopes for part in ("-s", scope)]
    stack.json("tenants", "create", TENANT)
    [made] = stack.json("keys", "create", "all", "--tenant", TENANT, *options)
    api_key: str = made["api_key"]
    # Blanks are not embedded, but bytes above a limit go to the object store.
    for number, blanks in enumerate((1, 1, 400_000)):
        (folder / f"{number}.txt").write_text(f"Document {number}. {' ' * blanks}{TEXT}")
    done = run_as(stack, api_key, "collections", "create", "plans", "--description", "secret")
    assert done.returncode == 0, done.stderr
    done = run_as(stack, api_key, "upload", str(folder), "-c", "plans", "--wait")
    assert done.returncode == 0, done.stderr
    done = run_as(stack, api_key, "ask", "How fast does the impeller of the secret pump turn?")
    assert done.returncode == 0, done.stderr
    return api_key


def count_points(stack: Any) -> int:
    async def run() -> int:
        async with open_channel(stack.vectors.address) as channel:
            store = EngineVectors(channel, profile="minilm-l6-v2", dimensions=384)
            return await store.count(TenantScope(TENANT))

    return asyncio.run(run())


def find_files(stack: Any) -> list[str]:
    """Files of the tenant in the object store."""
    return [
        name
        for folder, _, names in os.walk(stack.folder)
        for name in names
        if f"/objects/{TENANT}/" in f"{folder}/"
    ]


def wait_until(holds: Any, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_nothing_is_left_but_the_tombstone(stack, rows, tmp_path):
    api_key = fill(stack, tmp_path)
    before = count_rows(rows, TENANT)
    assert {
        "auth.keys",
        "ingest.documents",
        "ingest.versions",
        "ingest.chunks",
        "ingest.collections",
        "ingest.tenants",
        "query.documents",
        "query.passages",
        "query.answers",
    } <= before.keys()
    points = count_points(stack)
    assert points == before["query.passages"]
    files = find_files(stack)
    assert files

    refused = stack.run("tenants", "delete", TENANT)
    assert (refused.returncode, refused.stdout) == (EXIT_USAGE, "")
    assert "--yes" in refused.stderr
    [deleted] = stack.json("tenants", "delete", TENANT, "--yes")
    receipt = deleted["receipt"]
    assert receipt["auth"] == {"keys": 1}
    assert receipt["ingest"]["documents"] == 3
    assert receipt["ingest"]["chunks"] == before["ingest.chunks"]
    assert receipt["ingest"]["objects"] == len(files)
    assert receipt["query"]["passages"] == receipt["query"]["points"] == points
    assert receipt["query"]["answers"] == before["query.answers"]

    # What was being published when the last report was written.
    wait_until(lambda: count_rows(rows, TENANT).keys() <= TOMBSTONES)
    assert count_points(stack) == 0
    assert find_files(stack) == []
    assert rows.execute(
        "SELECT display_name FROM auth.tenants WHERE tenant_id = %s", [TENANT]
    ).fetchone() == (TENANT,)
    assert "KEY_INVALID" in run_as(stack, api_key, "search", "impeller").stderr

    [again] = stack.json("tenants", "delete", TENANT, "--yes")
    assert again == deleted
    listed = {one["tenant"]: one["state"] for one in stack.json("tenants", "list")}
    assert listed[TENANT] == "DELETED"
    for arguments in (("create", TENANT), ("resume", TENANT)):
        [error] = stack.json("tenants", *arguments)
        assert error["error"]["reason"] == "TENANT_DELETED"
