"""The conversations of a campaign: who holds them, their journal, and what is found of them."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg

from aquifer_cli.client import Client
from aquifer_cli.endpoints import Endpoints
from tests.faults.conversation_checker import conversation_violations, created
from tests.faults.conversation_evidence import ConversationEvidence, read_interface, read_rows
from tests.faults.conversing import Conversing, make_keys, open_people
from tests.faults.journal import Journal


class ConversationCampaign:
    """Grows over all runs, as the journal of the documents does.

    Args:
        endpoints: of each replica.
        seed: decides what is said.
        path: of the journal.
    """

    def __init__(self, endpoints: Sequence[Endpoints], seed: int, path: Path) -> None:
        self.endpoints = endpoints
        self.seed = seed
        self.journal = Journal(path)
        self._keys: dict[str, tuple[str, str]] = {}

    async def set_up(self, client: Client) -> None:
        """Makes the tenant and the keys of the people."""
        self._keys = await make_keys(client)

    @asynccontextmanager
    async def open(self, number: int) -> AsyncIterator[Conversing]:
        """The people of a run."""
        dice = random.Random(f"{self.seed}-{number}-conversations")
        async with open_people(self.endpoints, self._keys) as people:
            yield Conversing(people, self.journal, dice, number)

    async def read(self, number: int, dsn: str) -> ConversationEvidence:
        """Everything that is stored, and what people see of all and read of those of a run."""
        evidence = ConversationEvidence()
        with psycopg.connect(dsn, connect_timeout=5) as connection:
            read_rows(connection, evidence)
        of_run = {one for one, facts in created(self.journal).items() if facts["run"] == number}
        async with open_people(self.endpoints, self._keys) as people:
            await read_interface(people, of_run, evidence)
        return evidence

    async def find_violations(self, number: int, dsn: str) -> list[str]:
        """Broken promises, a line each."""
        return conversation_violations(self.journal, await self.read(number, dsn))
