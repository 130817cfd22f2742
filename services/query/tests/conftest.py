"""A real PostgreSQL and a real vector process; inference that hashes words and quotes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import mmh3
import numpy as np
import psycopg
import pytest
from psycopg.rows import DictRow, dict_row
from typing_extensions import override

from chassis.base.errors import InvalidInputError, NotFoundError
from chassis.base.postgres import Database, open_database
from query.answer import Delta, Finish, FinishReason, Generated, Quote
from query.domain import Matrix, Vector
from query.profile import Profile
from query.retrieval.vector_store import TenantScope
from query.usecases.generator import EXTRACTIVE, Generator, Prompt
from query.usecases.ports import Embedder
from query.vectors.engine_client import EngineVectors, open_channel
from services.query.tests.shared_words import list_stems
from stack.guardian import Guardian
from stack.programs import Vectors
from testkit.servers import TestDatabase

TENANTS = ("acme", "globex")
PROFILE = Profile(name="hashed-words", dimensions=64)


class HashingEmbedder(Embedder):
    """Texts that share words lie close together; passes the embedder's conformance suite."""

    def __init__(self, profile: Profile = PROFILE) -> None:
        self.profile = profile
        self.embedded: list[str] = []
        self.others: dict[Profile, HashingEmbedder] = {}

    def under(self, profile: Profile) -> "HashingEmbedder":
        """The embedder of another profile, whose vectors are unrelated to these."""
        if profile == self.profile:
            return self
        return self.others.setdefault(profile, HashingEmbedder(profile))

    @override
    async def embed_questions(self, tenant: str, texts: Sequence[str]) -> Sequence[Vector | None]:
        # It knows no script without letters in two cases.
        unread = [one.lower() == one.upper() and any(map(str.isalpha, one)) for one in texts]
        rows = self.rows(texts)
        return [None if not_read else row for not_read, row in zip(unread, rows, strict=True)]

    @override
    async def embed_passages(self, tenant: str, texts: Sequence[str]) -> Matrix:
        self.embedded += texts
        return self.rows(texts)

    def rows(self, texts: Sequence[str]) -> Matrix:
        dimensions = self.profile.dimensions
        seed = mmh3.hash(self.profile.name, signed=False)
        rows = np.full((len(texts), dimensions), 1e-3, dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for term in list_stems(text):
                row[mmh3.hash(term, seed, signed=False) % dimensions] += 1.0
        normalised: Matrix = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return normalised


class QuotingGenerator(Generator):
    """Quotes the first words of the best passage; passes the generator's conformance suite."""

    def __init__(self) -> None:
        self.generative = False
        self.quotes: Callable[[Prompt], list[Quote]] = first_words
        self.running = 0
        self.pause: asyncio.Event | None = None
        self.away: Exception | None = None
        self.reads = 64
        self.writes: list[Generated] = []
        self.prompts: list[Prompt] = []

    @override
    @asynccontextmanager
    async def generate(self, prompt: Prompt) -> AsyncIterator[AsyncIterator[Generated]]:
        if prompt.model not in {"", "quoting", EXTRACTIVE}:
            raise NotFoundError("MODEL_UNKNOWN", "no such model")
        self.prompts.append(prompt)
        self.running += 1
        try:
            yield self._steps(prompt)
        finally:
            self.running -= 1

    async def _steps(self, prompt: Prompt) -> AsyncIterator[Generated]:
        if self.away and prompt.model != EXTRACTIVE:
            raise self.away
        if len(prompt.passages) > self.reads:
            raise InvalidInputError("PROMPT_TOO_LONG", "x")
        if self.writes:
            for step in self.writes:
                yield step
            return
        quotes = self.quotes(prompt)
        yield Delta(text="The documents say: " if quotes else "They do not say.")
        if self.pause:
            await self.pause.wait()
        for quote in quotes:
            text = "".join(one.text for one in prompt.passages[quote.passage : quote.passage + 1])
            yield Delta(text=f"{text[quote.start : quote.end]} {quote.marker}")
            yield quote
        yield Finish(
            reason=FinishReason.STOP if quotes else FinishReason.NO_ANSWER,
            input_tokens=12,
            output_tokens=7,
            model="quoting",
            generative=self.generative,
            confidence=0.75 if quotes else 0.1,
        )


def first_words(prompt: Prompt) -> list[Quote]:
    if not prompt.passages:
        return []
    end = len(prompt.passages[0].text) // 2
    return [Quote(passage=0, start=0, end=end, marker="[1]")]


@pytest.fixture
def generator() -> QuotingGenerator:
    return QuotingGenerator()


@pytest.fixture
def embedder() -> HashingEmbedder:
    return HashingEmbedder()


@pytest.fixture(scope="session")
def migrated(postgres: TestDatabase) -> TestDatabase:
    postgres.migrate("query")
    return postgres


@pytest.fixture
def tables(migrated: TestDatabase) -> TestDatabase:
    migrated.clear("query")
    return migrated


@pytest.fixture
async def database(tables: TestDatabase) -> AsyncIterator[Database]:
    async with open_database(tables.dsn("query"), "query", 8) as database:
        yield database


@pytest.fixture
def everything(tables: TestDatabase) -> Iterator[psycopg.Connection[DictRow]]:
    """A connection no policy binds."""
    with psycopg.connect(
        tables.superuser_dsn, autocommit=True, row_factory=dict_row, options="-c search_path=query"
    ) as connection:
        yield connection


@pytest.fixture(scope="session")
def engine(servers_folder: Path, guardian: Guardian) -> Iterator[Vectors]:
    """One vector process for the run."""
    with Vectors(
        servers_folder / "vectors",
        socket_path=servers_folder / "vectors.sock",
        guardian=guardian,
        log=servers_folder / "vectors.log",
    ) as engine:
        yield engine


@pytest.fixture
async def vectors(engine: Vectors) -> AsyncIterator[EngineVectors]:
    """A store without points of `TENANTS`; making a new one would take half a second."""
    async with open_channel(engine.address) as channel:
        async with asyncio.timeout(60):
            await channel.channel_ready()
        store = EngineVectors(channel, profile=PROFILE.name, dimensions=PROFILE.dimensions)
        await store.prepare()
        for scope in map(TenantScope, TENANTS):
            page = await store.scroll(scope)
            await store.delete_points(scope, [entry.point_id for entry in page.entries])
        yield store
