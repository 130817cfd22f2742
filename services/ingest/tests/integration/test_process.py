"""The service as a process of its own: what its commands do, and how it ends."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import grpc
import psycopg
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from stack.ports import free_ports
from testkit.servers import TestBus, TestDatabase, password_of


async def command(*arguments: str, **environment: str) -> tuple[int | None, str]:
    """Exit code and output of `python -m ingest`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ingest", *arguments),
        env={"PATH": os.defpath, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_migrating_again_changes_nothing(migrated: TestDatabase):
    code, output = await command("migrate", AQUIFER_POSTGRES_DSN=migrated.dsn("ingest_owner"))
    assert (code, output) == (0, "")


async def test_every_tenant_table_is_under_forced_policies_the_service_can_not_lift(
    migrated: TestDatabase,
):
    with psycopg.connect(migrated.superuser_dsn) as connection:
        rows = connection.execute(
            "SELECT relname, relrowsecurity AND relforcerowsecurity, pg_get_userbyid(relowner)"
            " FROM pg_class WHERE relnamespace = 'ingest'::regnamespace AND relkind = 'r'"
            " AND relname <> 'schema_migrations'"
        ).fetchall()
    assert len(rows) >= 7
    assert {(forced, owner) for _, forced, owner in rows} == {(True, "ingest_owner")}


async def test_settings_that_are_missing_are_named_and_nothing_starts():
    code, output = await command("serve")
    assert code == 1
    for name in ("objects_url", "query_address", "postgres_dsn"):
        assert name in output


async def test_without_auth_it_runs_not_ready_and_ends_when_asked(
    bus: TestBus, migrated: TestDatabase, tmp_path: Path
):
    [port] = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ingest", "serve"),
        env={
            "PATH": os.defpath,
            "AQUIFER_LISTEN": f"127.0.0.1:{port}",
            "AQUIFER_NATS_URL": bus.url,
            "AQUIFER_NATS_USER": "ingest",
            "AQUIFER_NATS_PASSWORD": password_of("ingest"),
            "AQUIFER_POSTGRES_DSN": migrated.dsn("ingest"),
            "AQUIFER_AUTH_ADDRESS": "127.0.0.1:1",
            "AQUIFER_QUERY_ADDRESS": "127.0.0.1:1",
            "AQUIFER_OBJECTS_URL": str(tmp_path / "objects"),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with (
            asyncio.timeout(60),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=HealthCheckRequest.SerializeToString,
                response_deserializer=HealthCheckResponse.FromString,
            )
            request = HealthCheckRequest(service="aquifer.ingest.v1.IngestService")
            answer = await check(request, wait_for_ready=True)
        assert answer.status == HealthCheckResponse.NOT_SERVING
        assert (tmp_path / "objects").is_dir()
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-2_000:]
