"""The commands for embedding profiles. They follow the other commands of operators.

Like all commands they import what they need when they run.
"""

import sys
from typing import TYPE_CHECKING

import click

from aquifer_cli.command import Commands, Run, command
from aquifer_cli.commands_operate import cli
from aquifer_cli.errors import EXIT_FAILED

if TYPE_CHECKING:
    from aquifer.ops.v1.profile_service_pb2 import EmbeddingProfile
    from aquifer_cli.client import Client

__all__ = ["cli"]

_NAME = click.argument("profile", metavar="PROFILE")


@cli.group("profiles", cls=Commands)
def profiles() -> None:
    """Changes the embedding model without interruption.

    Passages have vectors under the live embedding profile; searches use only these. Another
    profile that inference offers (AQUIFER_MORE_EMBEDDERS) is built beside it while the stack is
    used, compared, and made live in one step; the old one stays complete, so that one can flip
    back, until it is dropped. The key in use needs the scope operate.
    """


@command(profiles, "list", examples="  aquifer profiles list\n  aquifer profiles list --json")
def list_profiles(run: Run) -> int:
    """Lists the profiles, their state, and their number of points.

    LIVE: searches use it. READY: complete, can be made live. BUILDING: being filled. DROPPED:
    being removed. AVAILABLE: offered by inference.
    """
    from aquifer_cli import profiles as showing

    showing.show_list(run.screen, run.with_client(showing.list_profiles))
    return 0


@command(
    profiles,
    "build",
    examples="  aquifer profiles build e5-small\n  aquifer profiles build e5-small --no-wait",
)
@_NAME
@click.option("--no-wait", is_flag=True, help="Return at once; the build goes on by itself.")
def build_profile(run: Run, profile: str, *, no_wait: bool) -> int:
    """Builds the index of a profile beside the live one.

    Vectors of all passages are computed by the services, with what uploads and questions leave of
    the model's capacity. Stopping this command does not stop the build; running it again waits
    for it. Exit code 1 when the profile is dropped meanwhile.
    """
    from aquifer_cli import profiles as building

    run.with_client(lambda client: building.begin_build(client, profile))
    if no_wait:
        run.screen.note("the build has begun; `aquifer profiles list` shows how far it is")
        return 0
    with run.screen.show_progress(points=None) as bars:

        def on_progress(points: int, passages: int) -> None:
            bars["points"].set_count(min(points, passages), passages)

        async def wait(client: "Client") -> "EmbeddingProfile | None":
            return await building.wait_until_built(client, profile, on_progress)

        built = run.with_client(wait)
    if built is None:
        run.screen.fail(f"{profile} was dropped meanwhile", "`aquifer profiles list` shows why")
        return EXIT_FAILED
    if run.screen.machine:
        run.screen.record({"profile": profile, "state": "READY", "points": built.points})
    run.screen.say(f"{profile} is complete: {built.points:,} points")
    run.screen.note(f"`aquifer profiles compare {profile}`, then `aquifer profiles flip {profile}`")
    return 0


@command(profiles, "compare", examples="  aquifer profiles compare e5-small --samples 100")
@_NAME
@click.option("--samples", type=click.IntRange(1, 200), default=50, help="Passages to try.")
@click.option("--top", type=click.IntRange(1, 100), default=10, help="Results to compare.")
def compare_profile(run: Run, profile: str, samples: int, top: int) -> int:
    """Compares the profile beside the live one with the live one.

    Counts the points of both, takes random passages as questions, and reports how many passages
    find themselves first and how many results both have in common.
    """
    from aquifer_cli import profiles as comparing

    found = run.with_client(lambda client: comparing.compare(client, profile, samples, top))
    if run.screen.machine:
        run.screen.record(comparing.comparison_json(found))
    comparing.show_comparison(run.screen, found)
    return 0


@command(profiles, "flip", examples="  aquifer profiles flip e5-small")
@_NAME
def flip_profile(run: Run, profile: str) -> int:
    """Makes the profile beside the live one live.

    From then on every search uses it. Both stay complete: flip to the old one to go back.
    """
    from aquifer_cli import profiles as flipping

    run.with_client(lambda client: flipping.flip(client, profile))
    if run.screen.machine:
        run.screen.record({"profile": profile, "state": "LIVE"})
    run.screen.say(f"{profile} is live")
    return 0


@command(profiles, "drop", examples="  aquifer profiles drop minilm-l6-v2")
@_NAME
@click.option("--yes", "-y", is_flag=True, help="Do not ask before.")
def drop_profile(run: Run, profile: str, *, yes: bool) -> int:
    """Removes the profile that is not live, its points and its vectors.

    Also ends a build. One cannot flip back to it without building it again. Asks before in a
    terminal.
    """
    from aquifer_cli import profiles as dropping

    asks = not yes and run.screen.animated and sys.stdin.isatty()
    if asks and not click.confirm(f"drop {profile}?", err=True):
        run.screen.note("nothing was changed")
        return EXIT_FAILED
    run.with_client(lambda client: dropping.drop(client, profile))
    if run.screen.machine:
        run.screen.record({"profile": profile, "state": "DROPPED"})
    run.screen.say(f"{profile} is dropped")
    return 0
