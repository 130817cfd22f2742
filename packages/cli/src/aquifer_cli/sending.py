"""Shows uploads to people: progress, outcomes and what to do next."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from aquifer_cli import show
from aquifer_cli import upload as uploading
from aquifer_cli.client import Client
from aquifer_cli.command import Run
from aquifer_cli.concurrency import open_task_group
from aquifer_cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, interrupted_error

REPEAT_S = 10.0


def send(run: Run, items: list[uploading.Item], *, wait: bool) -> int:
    """Sends documents with a progress bar and shows the outcomes; returns the exit code."""
    screen = run.screen
    known: dict[str, uploading.Outcome] = {}
    totals = {"uploaded": len(items), **({"finished": len(items)} if wait else {})}
    with screen.show_progress(**totals) as bars:

        def on_accepted(outcome: uploading.Outcome) -> None:
            known[outcome.path] = outcome
            bars["uploaded"].advance()

        def on_done(outcome: uploading.Outcome) -> None:
            if screen.machine:
                screen.record(outcome.as_json())
            if outcome.path not in known:
                bars["uploaded"].advance()
            known[outcome.path] = outcome
            if wait:
                bars["finished"].advance()

        def on_wait(reason: str) -> None:
            bars["uploaded"].set_label(
                f"uploaded ({reason}, trying again)" if reason else "uploaded"
            )

        def describe_progress() -> str:
            return f"{len(known):,} of {len(items):,} documents: {count_states(known.values())}"

        async def work(client: Client) -> list[uploading.Outcome]:
            async with _repeat_progress(run, describe_progress):
                return await uploading.send(
                    client,
                    items,
                    wait=wait,
                    on_done=on_done,
                    on_accepted=on_accepted,
                    on_wait=on_wait,
                )

        try:
            outcomes = run.with_client(work)
        except KeyboardInterrupt as error:
            raise interrupted_error(
                f"{count_states(known.values())}, {len(items) - len(known):,} not sent",
                hint=advise(known.values(), unsent=len(known) < len(items)),
            ) from error
    show.show_notes(screen, items)
    show.show_outcomes(screen, outcomes)
    screen.say(count_states(outcomes))
    screen.note(advise(outcomes, unsent=any(each.state == "NOT_SENT" for each in outcomes)))
    return exit_code(outcomes)


@asynccontextmanager
async def _repeat_progress(run: Run, describe_progress: Callable[[], str]) -> AsyncIterator[None]:
    """Prints the progress every `REPEAT_S` if there is no progress bar."""

    async def say() -> None:
        while True:
            await asyncio.sleep(REPEAT_S)
            run.screen.note(describe_progress())

    if run.screen.animated:
        yield
        return
    async with open_task_group() as group:
        saying = group.create_task(say())
        yield
        saying.cancel()


def exit_code(outcomes: Sequence[uploading.Outcome]) -> int:
    """The exit code: an unreachable service takes precedence over a failure."""
    if any(outcome.unreachable for outcome in outcomes):
        return EXIT_UNAVAILABLE
    return EXIT_FAILED if any(outcome.failed for outcome in outcomes) else 0


def advise(outcomes: Iterable[uploading.Outcome], *, unsent: bool) -> str:
    """What continues by itself, and what the same command would do."""
    hints = []
    if any(outcome.state in {"ACCEPTED", "PREPARED"} for outcome in outcomes):
        hints.append("accepted documents continue by themselves while the stack is up")
        hints += [] if unsent else ["the same command with --wait waits for them"]
    hints += ["the same command sends the rest"] if unsent else []
    return "; ".join(hints)


def count_states(outcomes: Iterable[uploading.Outcome]) -> str:
    """The number of outcomes in each state."""
    counts = Counter(outcome.state for outcome in outcomes)
    return ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items())) or "nothing"
