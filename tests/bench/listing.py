"""Lists of conversations with their last messages, compared with their SQL statement alone."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo

from aquifer.query.v1.conversation_service_pb2 import (
    Conversation,
    CreateConversationRequest,
    DeleteConversationRequest,
    ListConversationsRequest,
)
from aquifer_cli.client import Client, open_client
from query.store import conversation_statements as statements
from query.store.conversations import LAST_MESSAGE_CHARS
from tests.bench import processes
from tests.bench.ceiling import SETTINGS
from tests.bench.figures import Aim, Figure, Row, median, quantile, spread
from tests.bench.running_stack import RunningStack, make_folder, run_stack

NAME = "listing"
TITLE = "lists of conversations, over their SQL statement sent by a bare client"
PAGE: Final = 50
MESSAGES: Final = 4
SIDE_BY_SIDE = (10, 15, 50)
SOURCES: Final = 3
DOCUMENTS: Final = 1_000
WARM: Final = 100

# Conversations of two exchanges each; an answer has some 500 characters and three sources.
_FILL: Final = """
INSERT INTO query.documents (tenant_id, document, collection, live_version, tombstone_version)
SELECT %(tenant)s, 'collections/listing/documents/' || n, 'listing', 1, 0
FROM generate_series(0, %(documents)s - 1) AS n ON CONFLICT DO NOTHING;
CREATE TEMPORARY TABLE made AS
SELECT n, gen_random_uuid() AS conversation_id, gen_random_uuid() AS first,
       gen_random_uuid() AS second
FROM generate_series(1, %(conversations)s) AS n;
INSERT INTO query.conversations (tenant_id, conversation_id, principal, title, model, collection,
                                 filter, max_output_tokens, message_count, active_at)
SELECT %(tenant)s, conversation_id, %(principal)s, 'Wells of the valley ' || n, '', '', '',
       0, 4, now() - n * interval '1 second'
FROM made;
INSERT INTO query.answers (tenant_id, answer_id, principal, question, text, citations,
                           finish_reason, input_tokens, output_tokens, model, generative,
                           confidence, trace_id)
SELECT %(tenant)s, answer_id, %(principal)s, 'How deep is well ' || n || '?',
       repeat('The well is sixty metres deep [1]. ', 15), '[]', 'stop', 900, 120, 'extractive',
       false, 0.5, ''
FROM (SELECT n, unnest(ARRAY[first, second]) AS answer_id FROM made) AS one;
INSERT INTO query.answer_sources (tenant_id, answer_id, document, version)
SELECT %(tenant)s, answer_id, 'collections/listing/documents/' || (n + s) %% %(documents)s, 1
FROM (SELECT n, unnest(ARRAY[first, second]) AS answer_id FROM made) AS one,
     generate_series(1, %(sources)s) AS s;
INSERT INTO query.messages (tenant_id, conversation_id, number, question, answer_id)
SELECT %(tenant)s, conversation_id, number,
       CASE WHEN number %% 2 = 1 THEN 'How deep is the well number ' || n || ' of the valley?' END,
       CASE number WHEN 2 THEN first WHEN 4 THEN second END
FROM made, generate_series(1, 4) AS number;
DROP TABLE made;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Pages: seconds of each, how long all took, processor time by part."""

    each_s: Sequence[float]
    wall_s: float
    cpu_s: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Pages a second."""
        return len(self.each_s) / self.wall_s

    def cpu_ms(self, *without: str) -> float:
        """Processor time of a page, in all parts but some."""
        parts = {part: spent for part, spent in self.cpu_s.items() if part not in without}
        return sum(parts.values()) / len(self.each_s) * 1e3


@dataclass(slots=True, kw_only=True)
class Stage:
    """What was measured with so many conversations of the principal, by number of clients."""

    conversations: int
    grpc: dict[int, list[Listed]]
    bare: dict[int, list[Listed]]


def measure(sizes: Sequence[int], seconds: float, repetitions: int) -> Figure:
    """Pages from lists of so many conversations, in ascending order."""
    with make_folder() as folder, run_stack(folder, SETTINGS) as running:
        stages = asyncio.run(_measure_all(running, sizes, seconds, repetitions))
    return Figure(name=NAME, title=TITLE, rows=_rows(stages))


async def _measure_all(
    running: RunningStack, sizes: Sequence[int], seconds: float, repetitions: int
) -> list[Stage]:
    dsn = make_conninfo(running.stack.postgres.superuser_dsn, dbname="aquifer")
    async with open_client(running.endpoints) as client:
        principal = await _find_principal(client, dsn)
        stages, stored = [], 0
        for size in sizes:
            _fill(dsn, running.endpoints.tenant, principal, size - stored)
            stored = size
            stage = Stage(conversations=size, grpc={}, bare={})
            for count in SIDE_BY_SIDE:
                for _ in range(repetitions):
                    listed = await _list(running, client, count, seconds)
                    stage.grpc.setdefault(count, []).append(listed)
                    bare = await _list_bare(running, dsn, principal, count, seconds)
                    stage.bare.setdefault(count, []).append(bare)
            stages.append(stage)
    return stages


async def _find_principal(client: Client, dsn: str) -> str:
    """The principal of the key, as it is stored with what it creates."""
    create = CreateConversationRequest(conversation=Conversation(title="first"))
    made = await client.call(client.conversations.CreateConversation, create)
    with psycopg.connect(dsn) as connection:
        [[principal]] = connection.execute("SELECT principal FROM query.conversations").fetchall()
    delete = DeleteConversationRequest(name=made.name)
    await client.call(client.conversations.DeleteConversation, delete)
    return str(principal)


def _fill(dsn: str, tenant: str, principal: str, conversations: int) -> None:
    values = {
        "tenant": tenant,
        "principal": principal,
        "conversations": conversations,
        "documents": DOCUMENTS,
        "sources": SOURCES,
    }
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = psycopg.ClientCursor(connection)  # which can run several statements at once
        cursor.execute(_FILL.encode(), values)
        tables = ("conversations", "messages", "answers", "answer_sources", "documents")
        for table in tables:
            connection.execute(f"VACUUM ANALYZE query.{table}".encode())


async def _list(running: RunningStack, client: Client, count: int, seconds: float) -> Listed:
    """First pages through the interface, so many at a time."""
    request = ListConversationsRequest(page_size=PAGE, messages_per_conversation=MESSAGES)

    async def list_page() -> None:
        page = await client.call(client.conversations.ListConversations, request)
        assert len(page.conversations) == PAGE
        assert len(page.conversations[-1].last_messages) == MESSAGES

    return await _repeat(running, [list_page] * count, seconds)


async def _list_bare(
    running: RunningStack, dsn: str, principal: str, count: int, seconds: float
) -> Listed:
    """The rows of the same page, by one connection of a bare client for each at a time."""
    values = {
        "tenant": running.endpoints.tenant,
        "principal": principal,
        "held": None,
        "time": "infinity",
        "conversation_id": "00000000-0000-0000-0000-000000000000",
        # One more tells whether another page follows.
        "limit": PAGE + 1,
        "messages": MESSAGES,
        "chars": LAST_MESSAGE_CHARS,
    }
    async with AsyncExitStack() as held:

        async def connect() -> Callable[[], Awaitable[None]]:
            options = f"-c search_path=query -c app.tenant={running.endpoints.tenant}"
            connection = await held.enter_async_context(
                await psycopg.AsyncConnection.connect(dsn, autocommit=True, options=options)
            )
            await connection.execute("SET ROLE query")  # to which the policies of rows apply

            async def list_page() -> None:
                rows = await (await connection.execute(statements.LIST, values)).fetchall()
                assert len(rows) >= PAGE * MESSAGES

            return list_page

        return await _repeat(running, [await connect() for _ in range(count)], seconds)


async def _repeat(
    running: RunningStack, works: Sequence[Callable[[], Awaitable[Any]]], seconds: float
) -> Listed:
    """Each again and again, side by side; what comes first is not counted."""
    for place in range(WARM):
        await works[place % len(works)]()
    pids = processes.of(running.stack)
    each_s: list[float] = []
    before, started = processes.cpu_by_part(pids), time.perf_counter()

    async def repeat(work: Callable[[], Awaitable[Any]]) -> None:
        while time.perf_counter() - started < seconds:
            began = time.perf_counter()
            await work()
            each_s.append(time.perf_counter() - began)

    await asyncio.gather(*map(repeat, works))
    wall_s, after = time.perf_counter() - started, processes.cpu_by_part(pids)
    cpu_s = {part: after[part] - before[part] for part in pids}
    return Listed(each_s=each_s, wall_s=wall_s, cpu_s=cpu_s)


def _rows(stages: Sequence[Stage]) -> list[Row]:
    rows = []
    for stage in stages:
        for count, runs in stage.grpc.items():
            label = f"{count} at a time, of {stage.conversations:,}"
            rows += _rows_of(label, runs, stage.bare[count], stages[0].grpc[count])
    return rows


def _rows_of(
    label: str, runs: Sequence[Listed], bare: Sequence[Listed], first: Sequence[Listed]
) -> list[Row]:
    rates = [run.rate for run in runs]
    floor = median([run.rate for run in bare])
    ratios = [run.rate / under.rate for run, under in zip(runs, bare, strict=True)]
    rows = [
        Row(
            name=f"pages a second, {label}",
            value=median(rates),
            unit="1/s",
            spread=spread(rates),
            floor=floor,
            ratio=median(ratios),
            aim=Aim(sense=">=", limit=0.5, of="ratio"),
            note=f"{median(rates) / median([run.rate for run in first]):.2f} of the first size",
        )
    ]
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        value = median([quantile(run.each_s, share) for run in runs]) * 1e3
        under = median([quantile(run.each_s, share) for run in bare]) * 1e3
        rows.append(
            Row(name=f"{name}, {label}", value=value, unit="ms", floor=under, ratio=value / under)
        )
    whole = median([run.cpu_ms(processes.CLIENT) for run in runs])
    under = median([run.cpu_ms(processes.CLIENT) for run in bare])
    query = median([run.cpu_s["query"] / len(run.each_s) * 1e3 for run in runs])
    rows.append(
        Row(
            name=f"processor time of a page, {label}",
            value=whole,
            unit="ms",
            floor=under,
            ratio=whole / under,
            note=f"without the clients; {query:.2f} ms of it in query",
        )
    )
    return rows
