"""A tenant that is created, filled and deleted within one run, while parts are killed."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import grpc
import psycopg
from psycopg.conninfo import make_conninfo

from aquifer.auth.v1.auth_service_pb2 import DeleteTenantRequest, GetTenantDeletionRequest
from aquifer.auth.v1.tenant_deletion_pb2 import TenantDeletion
from aquifer.ingest.v1.ingest_service_pb2 import UploadDocumentRequest, UploadHeader
from aquifer_cli import keys, tenants
from aquifer_cli.client import Client, open_client
from aquifer_cli.errors import CommandError
from aquifer_cli.outcome import is_temporary
from stack import roles
from stack.up import Stack
from tests.faults import evidence as reading

CALL_S = 8.0
RETRY_S = 0.3
APART_S = (0.02, 0.2)
# So long it uploads before its deletion is ordered; what it sends afterwards must go as well.
FILLED_S = (0.8, 2.5)
# What was being published when the deletion finished is discarded soon after.
GONE_S = 30.0
# The tombstones, and who deleted the tenant.
TOMBSTONES = {
    "auth.tenants",
    "auth.tenant_deletions",
    "auth.revocations",
    "auth.audit",
    "ingest.deleted_tenants",
    "query.deleted_tenants",
}


def count_rows(connection: psycopg.Connection[Any], tenant: str) -> dict[str, int]:
    """Rows of a tenant in every table of every schema that has tenants, by table, without zeros."""
    tables = connection.execute(
        "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.columns"
        " WHERE column_name = 'tenant_id' AND table_schema IN ('auth', 'ingest', 'query')"
    ).fetchall()
    counts = {}
    for (table,) in tables:
        query = f"SELECT count(*) FROM {table} WHERE tenant_id = %s"
        [[counts[table]]] = connection.execute(query.encode(), [tenant]).fetchall()
    return {table: count for table, count in counts.items() if count}


async def wait_until_gone(stack: Stack, tenant: str) -> list[str]:
    """What a store still has of a deleted tenant after some time, a line each."""
    until = asyncio.get_running_loop().time() + GONE_S
    while remains := await _find_remains(stack, tenant):
        if asyncio.get_running_loop().time() > until:
            break
        await asyncio.sleep(RETRY_S)
    return [f"not deleted: {n} of tenant {tenant} in {place}" for place, n in remains.items()]


async def _find_remains(stack: Stack, tenant: str) -> dict[str, int]:
    """How much each store has of a tenant beside its tombstones."""
    dsn = make_conninfo(stack.postgres.superuser_dsn, dbname=roles.DATABASE)
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        counts = count_rows(connection, tenant)
        profiles = reading.read_profiles(connection)
    for profile in profiles:
        points = await reading.read_points(stack.vectors.socket_path, profile, [tenant])
        counts[f"points of {profile}"] = len(points)
    objects = reading.read_objects(stack.data.path / "objects")
    counts["objects"] = sum(key.startswith(f"{tenant}/") for key in objects)
    return {place: n for place, n in counts.items() if n and place not in TOMBSTONES}


@dataclass(slots=True)
class PassingTenant:
    """A tenant of one run.

    Args:
        operator: a client that may delete tenants.
        name: id of the tenant.
        random: decides what it does.
    """

    operator: Client
    name: str
    random: random.Random
    accepted: int = 0

    async def live(self, stop: asyncio.Event) -> None:
        """Creates the tenant, uploads documents until `stop`, and orders its deletion meanwhile."""
        await _repeat(lambda: tenants.create_tenant(self.operator, self.name, "passing"))
        scopes = ["documents.write", "documents.read"]
        made = await _repeat(
            lambda: keys.create_key(
                self.operator, "passing", scopes, labels=None, days=1, tenant=self.name
            )
        )
        endpoints = replace(self.operator.endpoints, tenant=self.name, api_key=made.api_key)
        ordered = asyncio.Event()
        async with open_client(endpoints) as client, asyncio.TaskGroup() as group:
            group.create_task(self._upload_until(stop, ordered, client))
            await asyncio.sleep(self.random.uniform(*FILLED_S))
            ordered.set()
            await self.order_deletion()

    async def order_deletion(self) -> TenantDeletion:
        """Orders the deletion until that is confirmed; returns how far it is."""
        request = DeleteTenantRequest(tenant=self.name, force=True)
        deletion: TenantDeletion = await _repeat(
            lambda: self.operator.call(self.operator.auth.DeleteTenant, request, timeout_s=CALL_S)
        )
        return deletion

    async def finish(self, limit_s: float) -> list[str]:
        """Waits until the deletion is finished; what is wrong with it, a line each."""
        request = GetTenantDeletionRequest(tenant=self.name)
        until = asyncio.get_running_loop().time() + limit_s
        while True:
            deletion = await _repeat(
                lambda: self.operator.call(self.operator.auth.GetTenantDeletion, request)
            )
            if deletion.HasField("finish_time"):
                break
            if asyncio.get_running_loop().time() > until:
                waits = ", ".join(deletion.pending_services)
                return [f"stuck: the deletion of tenant {self.name} waits for {waits}"]
            await asyncio.sleep(RETRY_S)
        removed = {
            (receipt.service, one.store): one.count
            for receipt in deletion.receipts
            for one in receipt.removed
        }
        documents = removed.get(("ingest", "documents"), 0)
        if documents >= self.accepted:
            return []
        counts = f"{documents} documents were removed, {self.accepted} were accepted"
        return [f"receipt: of tenant {self.name} {counts}"]

    async def _upload_until(
        self, stop: asyncio.Event, ordered: asyncio.Event, client: Client
    ) -> None:
        while not stop.is_set():
            known = not ordered.is_set()
            # What is accepted while the deletion is ordered may be refused a moment later.
            if await self._upload(client) and known and not ordered.is_set():
                self.accepted += 1
            await asyncio.sleep(self.random.uniform(*APART_S))

    async def _upload(self, client: Client) -> bool:
        text = f"Report {uuid.uuid4().hex} of the water board. " * self.random.randint(1, 40)
        document = f"collections/passing/documents/{uuid.uuid4().hex[:12]}"

        async def parts() -> AsyncIterator[UploadDocumentRequest]:
            header = UploadHeader(
                document=document,
                file_name="r.txt",
                request_id=document[-12:],
                size_bytes=len(text),
            )
            yield UploadDocumentRequest(header=header)
            yield UploadDocumentRequest(content=text.encode())

        try:
            await client.ingest.UploadDocument(
                parts(), timeout=CALL_S, metadata=await client.credentials()
            )
        except grpc.aio.AioRpcError:
            return False
        return True


async def _repeat(call: Any) -> Any:
    """Makes a call until it is answered: a part may be down."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except CommandError as error:
                if not is_temporary(error):
                    raise
                await asyncio.sleep(RETRY_S)
