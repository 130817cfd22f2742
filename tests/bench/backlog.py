"""How long a document of one tenant waits while another tenant imports many."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace

from aquifer.auth.v1.auth_service_pb2 import CreateApiKeyRequest, CreateTenantRequest
from aquifer_cli.client import Client, open_client
from aquifer_cli.sources import Item
from aquifer_cli.upload import send
from tests.bench.ceiling import SETTINGS
from tests.bench.corpus import Corpus
from tests.bench.figures import Aim, Figure, Row, quantile, spread
from tests.bench.running_stack import RunningStack, make_folder, run_stack
from tests.bench.upload import items_of

NAME = "backlog"
TITLE = "a document behind another tenant's import: null embedder, everything else as it is"
OTHER = "bench-other"
SCOPES = ("documents.read", "documents.write")
PAUSE_S = 0.2


def measure(corpus: Corpus, backlogs: Sequence[int]) -> Figure:
    """One document after the other, while imports of so many documents go on."""
    with make_folder() as folder, run_stack(folder, SETTINGS) as running:
        waits = asyncio.run(_measure(running, corpus, backlogs))
    base = quantile(waits[backlogs[0]][0], 0.95)
    rows = []
    for backlog, (took, whole_s) in waits.items():
        p95 = quantile(took, 0.95)
        about = f"{len(took)} documents, one after the other"
        rows.append(
            Row(
                name=f"sent to searchable behind {backlog:,}, p95",
                value=p95,
                unit="s",
                spread=spread(took),
                floor=base,
                ratio=p95 / base,
                aim=Aim(sense="<=", limit=1.2, of="ratio") if backlog != backlogs[0] else None,
                note=f"{about}; floor column: behind {backlogs[0]:,}; aim of the value: 2 s",
            )
        )
        rows.append(
            Row(
                name=f"the same over the import of {backlog:,}",
                value=p95,
                unit="s",
                floor=whole_s,
                ratio=p95 / whole_s,
                note="floor column: the whole import",
            )
        )
    return Figure(name=NAME, title=TITLE, rows=rows)


async def _measure(
    running: RunningStack, corpus: Corpus, backlogs: Sequence[int]
) -> dict[int, tuple[list[float], float]]:
    async with open_client(running.endpoints) as client:
        other = replace(running.endpoints, tenant=OTHER, api_key=await _create_tenant(client))
        async with open_client(other) as waiting:
            return {
                backlog: await _wait_behind(client, waiting, corpus, backlog)
                for backlog in backlogs
            }


async def _create_tenant(client: Client) -> str:
    """Creates the other tenant; returns its key."""
    request = CreateTenantRequest(tenant=OTHER, display_name="other")
    await client.call(client.auth.CreateTenant, request)
    key = await client.call(
        client.auth.CreateApiKey,
        CreateApiKeyRequest(display_name="bench", scopes=SCOPES, tenant=OTHER),
    )
    return str(key.api_key)


async def _wait_behind(
    client: Client, waiting: Client, corpus: Corpus, backlog: int
) -> tuple[list[float], float]:
    """Seconds until each document was searchable, and of the whole import."""
    took: list[float] = []
    started = time.perf_counter()
    imported = _make_items(corpus, backlog)
    importing = asyncio.ensure_future(send(client, imported, wait=True, on_done=lambda _: None))
    while not importing.done():
        await asyncio.sleep(PAUSE_S)
        [item] = items_of(corpus.lines[:1], f"behind-{backlog}-{len(took)}")
        began = time.perf_counter()
        await send(waiting, [item], wait=True, on_done=lambda _: None)
        took.append(time.perf_counter() - began)
    await importing
    return took, time.perf_counter() - started


def _make_items(corpus: Corpus, count: int) -> Sequence[Item]:
    lines = [corpus.lines[number % len(corpus.lines)] for number in range(count)]
    renamed = [json.dumps({**json.loads(line), "_id": f"d{n}"}) for n, line in enumerate(lines)]
    return items_of(renamed, f"imported-{count}")
