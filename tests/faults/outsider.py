"""A key that lacks a label searches while parts are killed: it finds nothing that has only that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from aquifer.query.v1.query_service_pb2 import SearchRequest
from aquifer_cli import keys
from aquifer_cli.client import Client, open_client
from aquifer_cli.errors import CommandError

# Documents that have it have it from their first upload on, and never another one.
SECRET = "secret"
# Labels of other documents; the key has the first.
OPEN = ("deck", "bridge")
# Finds secret documents first.
QUESTION = "Confidential report of the water board"
SEARCH_S = 5.0
APART_S = 0.25


def is_secret(document: str) -> bool:
    """Whether the document has the label that the key lacks; its name says so."""
    return f"-{SECRET}-" in document


@dataclass(slots=True)
class Outsider:
    """The holder of the key; `answers` counts its searches, `violations` what it should not see."""

    client: Client
    answers: int = 0
    violations: list[str] = field(default_factory=list)

    async def search_until(self, stop: asyncio.Event) -> None:
        """Searches all the time, whatever is down."""
        request = SearchRequest(question=QUESTION, limit=100)
        while not stop.is_set():
            try:
                found = await self.client.call(
                    self.client.query.Search, request, timeout_s=SEARCH_S
                )
            except CommandError:
                await asyncio.sleep(APART_S)
                continue
            self.answers += 1
            seen = {hit.passage.document for hit in found.hits}
            self.violations += [
                f"shown: {name} to a key without its label" for name in seen if is_secret(name)
            ]
            await asyncio.sleep(APART_S)


async def make_key(client: Client) -> str:
    """A key that may search, and has one of the open labels."""
    made = await keys.create_key(client, "outsider", ["search"], labels=OPEN[:1], days=1, tenant="")
    return made.api_key


@asynccontextmanager
async def open_outsider(client: Client, api_key: str) -> AsyncIterator[Outsider]:
    """A client of its own with this key."""
    async with open_client(replace(client.endpoints, api_key=api_key)) as own:
        yield Outsider(own)
