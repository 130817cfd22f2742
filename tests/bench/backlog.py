"""How long a single document waits while an import goes on: of another tenant, and of its own."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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
TITLE = "a single document while an import goes on"
OTHER = "bench-other"
SCOPES = ("documents.read", "documents.write")
PAUSE_S = 0.2
AIM_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Seconds from sent to searchable of single documents, and seconds of the whole import."""

    backlog: int
    took_s: Sequence[float]
    whole_s: float

    @property
    def p95_s(self) -> float:
        return quantile(self.took_s, 0.95)


def measure(corpus: Corpus, backlogs: Sequence[int]) -> Figure:
    """One document after the other, while imports of so many documents go on."""
    with make_folder() as folder, run_stack(folder, SETTINGS) as running:
        null = asyncio.run(_measure(running, corpus, backlogs))
    with make_folder() as folder, run_stack(folder, {}) as running:
        real = asyncio.run(_measure(running, corpus, backlogs[:1]))
    return Figure(
        name=NAME, title=TITLE, rows=[*_rows(null, "null embedder"), *_rows(real, "MiniLM")]
    )


def _rows(measured: tuple[Sequence[Waits], Waits], embedder: str) -> Iterator[Row]:
    """Rows behind another tenant's imports, then one behind an import of the same tenant."""
    others, own = measured
    for waits in others:
        base = others[0] if waits is not others[0] else None
        yield _row(waits, f"{embedder}: behind another tenant's {waits.backlog:,}, p95", base)
    yield _row(own, f"{embedder}: behind the same tenant's {own.backlog:,}, p95", None)


def _row(waits: Waits, name: str, base: Waits | None) -> Row:
    """A row with an aim in seconds, or compared with a smaller backlog."""
    about = f"{len(waits.took_s)} documents, one after the other; import {waits.whole_s:.0f} s"
    if base is None:
        return Row(
            name=name,
            value=waits.p95_s,
            unit="s",
            spread=spread(waits.took_s),
            aim=Aim(sense="<=", limit=AIM_S),
            note=about,
        )
    return Row(
        name=name,
        value=waits.p95_s,
        unit="s",
        spread=spread(waits.took_s),
        floor=base.p95_s,
        ratio=waits.p95_s / base.p95_s,
        aim=Aim(sense="<=", limit=1.2, of="ratio"),
        note=f"{about}; floor column: behind {base.backlog:,}; aim of the value: {AIM_S:.0f} s",
    )


async def _measure(
    running: RunningStack, corpus: Corpus, backlogs: Sequence[int]
) -> tuple[Sequence[Waits], Waits]:
    """Waits behind each import of another tenant, and behind the smallest of the same tenant."""
    async with open_client(running.endpoints) as client:
        other = replace(running.endpoints, tenant=OTHER, api_key=await _create_tenant(client))
        async with open_client(other) as waiting:
            others = [
                await _wait_behind(client, waiting, corpus, backlog, "others")
                for backlog in backlogs
            ]
        return others, await _wait_behind(client, client, corpus, backlogs[0], "own")


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
    client: Client, waiting: Client, corpus: Corpus, backlog: int, collection: str
) -> Waits:
    """Uploads of `waiting` while `client` imports; each is one call, as of a single document."""
    took_s: list[float] = []
    started = time.perf_counter()
    imported = _make_items(corpus, backlog, f"{collection}-{backlog}")
    importing = asyncio.ensure_future(send(client, imported, wait=True, on_done=lambda _: None))
    while not importing.done():
        await asyncio.sleep(PAUSE_S)
        [item] = items_of(corpus.lines[:1], f"{collection}-behind-{backlog}-{len(took_s)}")
        began = time.perf_counter()
        await send(waiting, [item], wait=True, on_done=lambda _: None)
        took_s.append(time.perf_counter() - began)
    await importing
    return Waits(backlog=backlog, took_s=took_s, whole_s=time.perf_counter() - started)


def _make_items(corpus: Corpus, count: int, collection: str) -> Sequence[Item]:
    lines = [corpus.lines[number % len(corpus.lines)] for number in range(count)]
    renamed = [json.dumps({**json.loads(line), "_id": f"d{n}"}) for n, line in enumerate(lines)]
    return items_of(renamed, collection)
