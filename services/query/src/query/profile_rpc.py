"""`ProfileService` and the scopes of its methods."""

import logging
from dataclasses import dataclass
from typing import Any, Final

from grpc.aio import ServicerContext
from typing_extensions import override

from aquifer.ops.v1 import profile_service_pb2 as pb
from aquifer.ops.v1.profile_service_pb2_grpc import ProfileServiceServicer
from chassis.base.errors import FieldViolation, InvalidInputError
from chassis.identity.tokens import caller
from chassis.rpc.server import Access, any_of
from query.domain import LIMIT_MAX
from query.usecases.compare_profiles import SAMPLES_MAX, CompareProfiles, Side
from query.usecases.profiles import (
    BuildProfile,
    DropProfile,
    FlipProfile,
    ListedProfile,
    ListProfiles,
    ProfileState,
)

log = logging.getLogger(__name__)

ACCESS: Final[Access] = {
    f"aquifer.ops.v1.ProfileService/{method}": any_of("operate")
    for method in ("ListProfiles", "BuildProfile", "CompareProfile", "FlipProfile", "DropProfile")
}
SAMPLES_DEFAULT: Final = 50
TOP_DEFAULT: Final = 10
STATES: Final = {
    ProfileState.LIVE: pb.PROFILE_STATE_LIVE,
    ProfileState.READY: pb.PROFILE_STATE_READY,
    ProfileState.BUILDING: pb.PROFILE_STATE_BUILDING,
    ProfileState.DROPPED: pb.PROFILE_STATE_DROPPED,
    ProfileState.AVAILABLE: pb.PROFILE_STATE_AVAILABLE,
}


@dataclass(frozen=True, kw_only=True)
class ProfileRpc(ProfileServiceServicer):
    """`ProfileService`; every change is logged with its caller."""

    listing: ListProfiles
    build: BuildProfile
    compare: CompareProfiles
    flip: FlipProfile
    drop: DropProfile

    @override
    async def ListProfiles(
        self, request: pb.ListProfilesRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListProfilesResponse:
        """Lists profiles, the live one first."""
        found = await self.listing.run()
        return pb.ListProfilesResponse(
            passages=found.passages, profiles=map(_to_profile, found.profiles)
        )

    @override
    async def BuildProfile(
        self, request: pb.BuildProfileRequest, context: ServicerContext[Any, Any]
    ) -> pb.BuildProfileResponse:
        """Begins a build."""
        await self.build.run(request.name)
        _log_change("profile.build_begun", request.name)
        return pb.BuildProfileResponse()

    @override
    async def CompareProfile(
        self, request: pb.CompareProfileRequest, context: ServicerContext[Any, Any]
    ) -> pb.CompareProfileResponse:
        """Compares the two indexes."""
        found = await self.compare.run(
            request.name,
            _parse_limit("samples", request.samples or SAMPLES_DEFAULT, SAMPLES_MAX),
            _parse_limit("top", request.top or TOP_DEFAULT, LIMIT_MAX),
        )
        return pb.CompareProfileResponse(
            passages=found.passages,
            samples=found.samples,
            top=found.top,
            overlap=found.overlap,
            live=_to_index(found.live),
            other=_to_index(found.other),
        )

    @override
    async def FlipProfile(
        self, request: pb.FlipProfileRequest, context: ServicerContext[Any, Any]
    ) -> pb.FlipProfileResponse:
        """Makes another profile live."""
        await self.flip.run(request.name)
        _log_change("profile.flipped", request.name)
        return pb.FlipProfileResponse()

    @override
    async def DropProfile(
        self, request: pb.DropProfileRequest, context: ServicerContext[Any, Any]
    ) -> pb.DropProfileResponse:
        """Drops the profile that is not live."""
        await self.drop.run(request.name)
        _log_change("profile.dropped", request.name)
        return pb.DropProfileResponse()


def _log_change(event: str, profile: str) -> None:
    log.warning(event, extra={"profile": profile, "principal": caller().principal})


def _parse_limit(name: str, value: int, most: int) -> int:
    if not 0 < value <= most:
        raise InvalidInputError(
            "LIMIT_RANGE",
            f"{name} must be in 1..{most}",
            fields=[FieldViolation(name, f"1 to {most}")],
            max_limit=most,
        )
    return value


def _to_profile(one: ListedProfile) -> pb.EmbeddingProfile:
    return pb.EmbeddingProfile(
        name=one.name,
        dimensions=one.dimensions,
        state=STATES[one.state],
        points=one.points,
        served=one.served,
        outdated_points=one.outdated,
    )


def _to_index(side: Side) -> pb.ComparedIndex:
    return pb.ComparedIndex(profile=side.name, points=side.points, found_first=side.found_first)
