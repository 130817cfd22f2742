"""`aquifer profiles`: lists, builds, compares, flips and drops embedding profiles."""

import asyncio
from collections.abc import Callable, Mapping

from aquifer.ops.v1.profile_service_pb2 import (
    BuildProfileRequest,
    ComparedIndex,
    CompareProfileRequest,
    CompareProfileResponse,
    DropProfileRequest,
    EmbeddingProfile,
    FlipProfileRequest,
    ListProfilesRequest,
    ListProfilesResponse,
    ProfileState,
)
from aquifer.ops.v1.profile_service_pb2_grpc import ProfileServiceStub
from aquifer_cli.client import Client
from aquifer_cli.errors import CommandError
from aquifer_cli.layout import Row
from aquifer_cli.outcome import is_temporary
from aquifer_cli.screen import Screen

# A comparison embeds up to 200 passages twice; a drop rewrites rows of all passages.
LONG_S = 300.0
POLL_S = 0.5
# Waiting for a build ends when the stack has not answered for this time; the build goes on.
PATIENCE_S = 60.0


def _stub(client: Client) -> ProfileServiceStub:
    return ProfileServiceStub(client.channels["query"])


async def list_profiles(client: Client) -> ListProfilesResponse:
    """All profiles, the live one first."""
    found: ListProfilesResponse = await client.call(
        _stub(client).ListProfiles, ListProfilesRequest()
    )
    return found


async def begin_build(client: Client, name: str) -> None:
    """Begins a build; it goes on by itself."""
    await client.call(_stub(client).BuildProfile, BuildProfileRequest(name=name))


async def wait_until_built(
    client: Client, name: str, on_progress: Callable[[int, int], None]
) -> EmbeddingProfile | None:
    """Waits until a profile is complete; None if it was dropped meanwhile.

    `on_progress` gets the number of points and of passages.

    Raises:
        CommandError: the stack does not answer for `PATIENCE_S`.
    """
    failing_since: float | None = None
    clock = asyncio.get_running_loop().time
    while True:
        try:
            listed = await list_profiles(client)
        except CommandError as error:
            failing_since = failing_since or clock()
            if not is_temporary(error) or clock() - failing_since > PATIENCE_S:
                raise
        else:
            failing_since = None
            found = next((one for one in listed.profiles if one.name == name), None)
            if found is None or found.state in ENDED:
                return None
            on_progress(found.points, listed.passages)
            if found.state in BUILT:
                return found
        await asyncio.sleep(POLL_S)


BUILT = {ProfileState.PROFILE_STATE_READY, ProfileState.PROFILE_STATE_LIVE}
ENDED = {ProfileState.PROFILE_STATE_DROPPED, ProfileState.PROFILE_STATE_AVAILABLE}


async def compare(client: Client, name: str, samples: int, top: int) -> CompareProfileResponse:
    """Compares a profile with the live one."""
    request = CompareProfileRequest(name=name, samples=samples, top=top)
    found: CompareProfileResponse = await client.call(
        _stub(client).CompareProfile, request, timeout_s=LONG_S
    )
    return found


async def flip(client: Client, name: str) -> None:
    """Makes a profile live."""
    await client.call(_stub(client).FlipProfile, FlipProfileRequest(name=name))


async def drop(client: Client, name: str) -> None:
    """Drops a profile; a call that is cut off is finished by the stack."""
    await client.call(_stub(client).DropProfile, DropProfileRequest(name=name), timeout_s=LONG_S)


def state_name(state: ProfileState.ValueType) -> str:
    """`LIVE`; the number for a state of a later contract."""
    if state not in ProfileState.values():
        return str(state)
    return ProfileState.Name(state).removeprefix("PROFILE_STATE_")


def as_json(one: EmbeddingProfile, passages: int) -> Mapping[str, object]:
    """One profile, for programs."""
    return {
        "profile": one.name,
        "state": state_name(one.state),
        "dimensions": one.dimensions,
        "points": one.points,
        "passages": passages,
        "served": one.served,
        "outdated_points": one.outdated_points,
    }


def show_list(screen: Screen, listed: ListProfilesResponse) -> None:
    """A table, and what to do about a profile that inference lacks."""
    for one in listed.profiles:
        if screen.machine:
            screen.record(as_json(one, listed.passages))
    screen.table(
        ["profile", "state", "dimensions", "points", "passages"],
        [
            Row(
                cells=(
                    one.name,
                    state_name(one.state),
                    one.dimensions,
                    one.points,
                    listed.passages,
                ),
                below=_explain(one),
            )
            for one in listed.profiles
        ],
    )


def _explain(one: EmbeddingProfile) -> str:
    """What is to know about a profile besides its numbers."""
    if not one.served:
        return "inference does not embed under it"
    if one.outdated_points:
        return (
            f"the words of {one.outdated_points:,} points are being indexed again, after an update"
        )
    return ""


def comparison_json(found: CompareProfileResponse) -> Mapping[str, object]:
    """A comparison, for programs."""
    return {
        "passages": found.passages,
        "samples": found.samples,
        "top": found.top,
        "overlap": round(found.overlap, 4),
        "live": _index_json(found.live),
        "other": _index_json(found.other),
    }


def _index_json(one: ComparedIndex) -> Mapping[str, object]:
    return {"profile": one.profile, "points": one.points, "found_first": one.found_first}


def show_comparison(screen: Screen, found: CompareProfileResponse) -> None:
    """Both indexes side by side, and how to read it."""
    screen.table(
        ["profile", "points", "passages", f"of {found.samples} found first"],
        [
            Row(cells=(one.profile, one.points, found.passages, one.found_first))
            for one in (found.live, found.other)
        ],
    )
    screen.say(f"{found.overlap:.0%} of the first {found.top} results are the same")
    screen.note(
        "a passage taken as a question should find itself first; how many further results two "
        "models have in common says how different they are, not which one is better"
    )
