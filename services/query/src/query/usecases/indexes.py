"""The indexes of this process: one for each embedding profile in use."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from chassis.base.errors import UnavailableError
from query.profile import Profile
from query.retrieval.vector_store import VectorStore
from query.usecases.ports import Embedder
from query.usecases.records import Profiles, StoreRecords

# The reason of a vector store that answers but has lost its points.
STORE_MISSING = "VECTORS_STORE_MISSING"
# The live profile and one beside it.
INDEXES_MAX = 2


@dataclass(slots=True)
class Serving:
    """The complete vector store, if one is known, and its problem, if it has one.

    `store_id` is None until a complete store was found, and during a rebuild. A store that did not
    answer is still asked, because it may be back before the next check. `progress` rises during a
    rebuild. `outdated` is the number of points with terms of an earlier analyser.
    """

    store_id: UUID | None = None
    problem: str = "vector store not seen yet"
    progress: int = 0
    outdated: int = 0

    def count(self, rebuilt: int, total: int) -> None:
        """Records how many passages have their point again; `progress` never falls."""
        self.problem = f"vector store is being rebuilt: {rebuilt:,} of {total:,} passages"
        self.progress = max(self.progress, 1 + rebuilt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """The store and the embedder of one profile, and what this process knows of the store."""

    profile: Profile
    vectors: VectorStore
    embedder: Embedder
    serving: Serving = field(default_factory=Serving)


class Opening(Protocol):
    """Opens the adapters of a profile."""

    def open_vectors(self, profile: Profile) -> VectorStore:
        """The store of a profile; it may not exist yet."""

    def open_embedder(self, profile: Profile) -> Embedder:
        """The embedder of a profile."""


def _make_wakes() -> tuple[asyncio.Event, ...]:
    return tuple(asyncio.Event() for _ in range(INDEXES_MAX))


@dataclass(slots=True, kw_only=True)
class Indexes:
    """The indexes in use, and which of them is live.

    Postgres decides, see `Profiles`. Whoever writes asks it each time (`list_in_use`). A search
    uses the index that was live when this process looked last, and the statement that reads its
    passages says if another one is live by now. `wakes` are set when stores should be checked now.
    """

    profiles: Profiles
    records: StoreRecords
    opening: Opening
    wakes: Sequence[asyncio.Event] = field(default_factory=_make_wakes)
    _opened: dict[Profile, Index] = field(default_factory=dict, init=False)
    _live: Index | None = field(default=None, init=False)

    def open(self, profile: Profile) -> Index:
        """The index of a profile, in use or not."""
        if profile not in self._opened:
            self._opened[profile] = Index(
                profile=profile,
                vectors=self.opening.open_vectors(profile),
                embedder=self.opening.open_embedder(profile),
            )
        return self._opened[profile]

    async def list_in_use(self) -> Sequence[Index]:
        """The indexes in use, the live one first."""
        return [self.open(profile) for profile in await self.profiles.read()]

    async def find_live(self) -> Index:
        """The index that was live when this process looked last."""
        return self._live or await self.follow()

    async def follow(self) -> Index:
        """The live index; its store is checked if another one was live before.

        Raises:
            UnavailableError: VECTORS_UNAVAILABLE, DATABASE_UNAVAILABLE.
        """
        live = self.open((await self.profiles.read()).live)
        if live is not self._live:
            await self.check(live)
            self._live = live
        return live

    async def check(self, index: Index) -> bool:
        """Whether the store is the complete one; searches are served or refused accordingly."""
        record = await self.records.read(index.profile.name)
        try:
            store_id = (await index.vectors.info()).store_id
        except UnavailableError as error:
            if error.reason != STORE_MISSING:
                index.serving.problem = f"vector store: {error.reason}"
                raise
            store_id = None
        whole = store_id is not None and record.complete and record.store_id == store_id
        serve(index, store_id if whole else None)
        return whole

    def wake(self) -> None:
        """Asks for a check of the stores now."""
        for one in self.wakes:
            one.set()

    @property
    def problem(self) -> str:
        """Why searches would fail; empty if they would not."""
        return (self._live.serving if self._live else Serving()).problem

    @property
    def progress(self) -> int:
        """Rises while a store is filled."""
        return sum(index.serving.progress for index in self._opened.values())


def serve(index: Index, store_id: UUID | None) -> None:
    """Notes which complete store searches may use; None: none."""
    index.serving.store_id = store_id
    index.serving.problem = "" if store_id else "vector store is being rebuilt"
