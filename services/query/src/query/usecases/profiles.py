"""Lists, builds, flips and drops embedding profiles, for an operator."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from chassis.base.errors import FailedPreconditionError, NotFoundError, UnavailableError
from query.profile import Profile
from query.usecases.index_chunks import profiles_changed_error
from query.usecases.indexes import STORE_MISSING, Index, Indexes
from query.usecases.ports import Catalogue, Ledger
from query.usecases.records import InUse, Profiles, StoreRecords
from query.usecases.remove_dropped import RemoveDropped


class ProfileState(Enum):
    """What a profile is to this stack."""

    LIVE = "live"
    READY = "ready"
    BUILDING = "building"
    DROPPED = "dropped"
    AVAILABLE = "available"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedProfile:
    """A profile; `points` of all tenants in its store. `served`: inference embeds under it.

    `outdated` points have terms of an earlier analyser, as far as this process knows.
    """

    name: str
    dimensions: int
    state: ProfileState
    points: int
    served: bool
    outdated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All profiles, the live one first, and the number of passages of all tenants."""

    passages: int
    profiles: Sequence[ListedProfile]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListProfiles:
    """Lists the profiles in use, those being removed, and those that inference offers besides."""

    indexes: Indexes
    records: StoreRecords
    ledger: Ledger
    catalogue: Catalogue

    async def run(self) -> Listing:
        served = {one.name: one for one in await self.catalogue.list_profiles()}
        live, *beside = await self.indexes.list_in_use()
        listed = [await self._describe(live, ProfileState.LIVE, served)]
        for index in beside:
            complete = await self.indexes.check(index)
            state = ProfileState.READY if complete else ProfileState.BUILDING
            listed.append(await self._describe(index, state, served))
        dropped = await self.records.list_dropped()
        listed += [_without_index(name, ProfileState.DROPPED, served) for name in dropped]
        others = sorted(served.keys() - {one.name for one in listed})
        listed += [_without_index(name, ProfileState.AVAILABLE, served) for name in others]
        counts = [await self.ledger.count_passages(one) for one in await self.ledger.list_tenants()]
        return Listing(passages=sum(counts), profiles=listed)

    async def _describe(
        self, index: Index, state: ProfileState, served: dict[str, Profile]
    ) -> ListedProfile:
        try:
            points = (await index.vectors.info()).points
        except UnavailableError as error:
            if error.reason != STORE_MISSING:
                raise
            points = 0
        return ListedProfile(
            name=index.profile.name,
            dimensions=index.profile.dimensions,
            state=state,
            points=points,
            served=index.profile.name in served,
            outdated=index.serving.outdated,
        )


def _without_index(name: str, state: ProfileState, served: dict[str, Profile]) -> ListedProfile:
    dimensions = served[name].dimensions if name in served else 0
    return ListedProfile(
        name=name, dimensions=dimensions, state=state, points=0, served=name in served
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildProfile:
    """Begins to build the index of a profile beside the live one.

    An empty store is made first, then the profile is put into use: from then on uploads get points
    in both indexes, deletes remove them from both, and `KeepIndexes` of any process adds the points
    of all passages. A crash before that leaves an empty store, which the next build replaces.
    """

    indexes: Indexes
    records: StoreRecords
    profiles: Profiles
    catalogue: Catalogue

    async def run(self, name: str) -> None:
        """Returns at once; does nothing if the profile is being built or is ready.

        Raises:
            NotFoundError: PROFILE_UNKNOWN, inference does not embed under it.
            FailedPreconditionError: PROFILE_LIVE, PROFILE_BESIDE, PROFILE_DROPPED.
            ConflictError: PROFILES_CHANGED.
        """
        in_use = await self.profiles.read()
        if name == in_use.live.name:
            raise live_error(name)
        if in_use.beside and name == in_use.beside.name:
            return
        if in_use.beside:
            raise FailedPreconditionError(
                "PROFILE_BESIDE",
                f"{in_use.beside.name} is beside the live profile; drop it first",
                profile=in_use.beside.name,
            )
        if (await self.records.read(name)).dropped:
            raise FailedPreconditionError(
                "PROFILE_DROPPED", f"{name} is still being removed; retry later", profile=name
            )
        served = {one.name: one for one in await self.catalogue.list_profiles()}
        if name not in served:
            raise unknown_error(name)
        index = self.indexes.open(served[name])
        await self.records.forget(name)
        await self.indexes.check(index)  # refuses a store that is not ours
        await index.vectors.drop()
        await index.vectors.prepare()
        if not await self.profiles.begin_build(index.profile, in_use):
            raise profiles_changed_error()
        self.indexes.wake()


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipProfile:
    """Makes the profile beside the live one live, and keeps the other one beside it.

    One row changes. Both indexes stay complete, so a flip back is the same step.
    """

    indexes: Indexes
    profiles: Profiles

    async def run(self, name: str) -> None:
        """Returns when every search that begins uses the profile.

        Raises:
            FailedPreconditionError: PROFILE_LIVE, PROFILE_NOT_BUILT, PROFILE_INCOMPLETE.
            ConflictError: PROFILES_CHANGED.
        """
        in_use = await self.profiles.read()
        if name == in_use.live.name:
            raise live_error(name)
        index = self.indexes.open(find_beside(in_use, name))
        complete = await self.indexes.check(index)
        store_id = index.serving.store_id
        if not complete or store_id is None:
            raise FailedPreconditionError(
                "PROFILE_INCOMPLETE",
                f"{name} has not all points yet; wait until its state is READY",
                profile=name,
            )
        if not await self.profiles.flip(in_use, store_id):
            raise profiles_changed_error()
        await self.indexes.follow()


@dataclass(frozen=True, slots=True, kw_only=True)
class DropProfile:
    """Ends the use of the profile beside the live one, also of one that is being built.

    Its store and its vectors are removed by `RemoveDropped`, now or, after a crash, later.
    """

    profiles: Profiles
    remove: RemoveDropped

    async def run(self, name: str) -> None:
        """Does nothing more than removing if it was dropped before.

        Raises:
            FailedPreconditionError: PROFILE_LIVE, PROFILE_NOT_BUILT.
            ConflictError: PROFILES_CHANGED.
        """
        in_use = await self.profiles.read()
        if name == in_use.live.name:
            raise live_error(name)
        find_beside(in_use, name)
        if not await self.profiles.drop(in_use):
            raise profiles_changed_error()
        await self.remove.run()


def find_beside(in_use: InUse, name: str) -> Profile:
    """The profile beside the live one, if it is this one; raises PROFILE_NOT_BUILT otherwise."""
    if in_use.beside is None or in_use.beside.name != name:
        raise FailedPreconditionError(
            "PROFILE_NOT_BUILT", f"{name} has no index; build it first", profile=name
        )
    return in_use.beside


def live_error(name: str) -> FailedPreconditionError:
    """PROFILE_LIVE: the profile is the one that searches use."""
    return FailedPreconditionError(
        "PROFILE_LIVE", f"{name} is the live profile; to leave it, flip to another", profile=name
    )


def unknown_error(name: str) -> NotFoundError:
    """PROFILE_UNKNOWN: inference does not embed under it."""
    return NotFoundError(
        "PROFILE_UNKNOWN", f"inference has no embedding profile {name!r}", profile=name
    )
