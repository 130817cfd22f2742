"""Interfaces of the rows of no tenant: profiles in use, vector stores, and the history."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from query.domain import Version
from query.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """The profiles that have an index: the live one, used by searches, and one beside it."""

    live: Profile
    beside: Profile | None = None

    def __iter__(self) -> Iterator[Profile]:
        yield self.live
        if self.beside:
            yield self.beside


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRecord:
    """The record in Postgres of a profile's vector store: its id, and whether it is complete.

    `store_id` is None before the first store, and while no store is complete. `dropped`: the
    profile is no longer in use, and its store and vectors are being removed.
    """

    store_id: UUID | None
    complete: bool
    dropped: bool = False


class Rebuilding(Protocol):
    """The right to rebuild a vector store; only one process has it at a time."""

    async def keep(self) -> None:
        """Keep the right; to be called at least every 30 s.

        Raises:
            UnavailableError: the right is lost; stop the rebuild at once.
        """

    async def complete(self, store_id: UUID) -> None:
        """Record the store as complete; takes effect when the right is released."""

    async def remove_record(self) -> None:
        """Remove the record of a dropped profile; takes effect when the right is released."""


class StoreRecords(Protocol):
    """Records which vector store is complete; raises as `Ledger` does."""

    async def read(self, profile: str) -> StoreRecord:
        """Read the record of a profile."""

    async def forget(self, profile: str) -> None:
        """Record that no store of the profile is complete."""

    def begin_rebuild(self, profile: str) -> AbstractAsyncContextManager[Rebuilding | None]:
        """Take the right to rebuild; None if another process has it. It ends with the process."""

    async def list_dropped(self) -> Sequence[str]:
        """Profiles that were dropped and are not removed yet."""


class Profiles(Protocol):
    """The row that says which profiles are in use; raises as `Ledger` does.

    A change waits for transactions that hold `Rows.lock_profiles`. It is made only if the row still
    is what the caller has read; returns whether it was made.
    """

    async def read(self) -> InUse:
        """Read the row."""

    async def begin_build(self, profile: Profile, expected: InUse) -> bool:
        """Put a profile beside the live one."""

    async def flip(self, expected: InUse, store_id: UUID) -> bool:
        """Swap the two profiles, if this store of the one beside is complete."""

    async def drop(self, expected: InUse) -> bool:
        """End the use of the profile beside, and mark its record as dropped."""


class History(Protocol):
    """Which superseded versions are kept; raises as `Ledger` does."""

    async def keep(self, window: timedelta) -> datetime | None:
        """Keep versions for this time after they were superseded; zero: none.

        Records since when every superseded version is kept. That time never goes back, except that
        a window of zero forgets it. Returns the time before which superseded versions are too old,
        None if all are.
        """

    async def list_expired(
        self, before: datetime | None, limit: int
    ) -> Sequence[tuple[str, Version]]:
        """Tenants and versions that were superseded before a time; None: all kept versions.

        Tenants that are being removed are left out.
        """
