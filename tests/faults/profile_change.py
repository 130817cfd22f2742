"""A change of the live embedding profile while parts are killed."""

import asyncio

from aquifer.ops.v1.profile_service_pb2 import ProfileState
from aquifer_cli import profiles
from aquifer_cli.client import Client
from aquifer_cli.errors import CommandError
from aquifer_cli.outcome import is_temporary

RETRY_S = 0.3
# A profile that a call changed although its answer was lost, or that is not complete yet.
PASSING = {"PROFILE_INCOMPLETE", "PROFILE_DROPPED", "PROFILES_CHANGED", "DATABASE_CONFLICT"}


async def change_profile(client: Client) -> str:
    """Drops the profile beside the live one, builds it again and flips to it; returns its name.

    Every call may be cut off at any point, and is then made again: what it did shows in the list.
    """
    dropped = False
    target = ""
    while True:
        try:
            listed = (await profiles.list_profiles(client)).profiles
            states = {one.name: one.state for one in listed}
            live, *others = [one.name for one in listed]
            if live == target:
                return target
            target = target or others[0]
            match states[target]:
                case ProfileState.PROFILE_STATE_AVAILABLE:
                    dropped = True
                    await profiles.begin_build(client, target)
                case ProfileState.PROFILE_STATE_READY if dropped:
                    await profiles.flip(client, target)
                case ProfileState.PROFILE_STATE_READY:
                    dropped = True
                    await profiles.drop(client, target)
        except CommandError as error:
            if not is_temporary(error) and error.reason not in PASSING:
                raise
        await asyncio.sleep(RETRY_S)
