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
from aquifer_cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, CommandError, interrupted_error
from aquifer_cli.screen import Bar, Screen

REPEAT_S = 10.0
# While nothing changes.
REPEAT_UNCHANGED_S = 60.0
LARGE = "MiB of large files"


class Sending:
    """Documents on their way, with progress bars and, for programs, a line for each outcome.

    Args:
        screen: where they are shown.
        items: sent in this order.
        wait: whether to wait until every version is final.
        as_json: an outcome for programs.
    """

    def __init__(
        self,
        screen: Screen,
        items: Sequence[uploading.Item],
        *,
        wait: bool,
        as_json: Callable[[uploading.Outcome], dict[str, object]] = uploading.Outcome.as_json,
    ) -> None:
        self.known: dict[str, uploading.Outcome] = {}
        self._screen = screen
        self._items = items
        self._wait = wait
        self._as_json = as_json

    async def run(self, client: Client) -> list[uploading.Outcome]:
        """The outcomes in the order of the items.

        Raises:
            CommandError: the key is not accepted, or auth cannot be reached; nothing has been sent.
        """
        totals = {"uploaded": len(self._items)}
        totals |= {"finished": len(self._items)} if self._wait else {}
        large_bytes = sum(map(_large_bytes, self._items))
        totals |= {LARGE: large_bytes >> 20} if large_bytes else {}
        with self._screen.show_progress(**totals) as bars:

            def on_accepted(outcome: uploading.Outcome) -> None:
                self.known[outcome.path] = outcome
                bars["uploaded"].advance()

            def on_done(outcome: uploading.Outcome) -> None:
                if self._screen.machine:
                    self._screen.record(self._as_json(outcome))
                if outcome.path not in self.known:
                    bars["uploaded"].advance()
                self.known[outcome.path] = outcome
                if self._wait:
                    bars["finished"].advance()

            def on_wait(reason: str) -> None:
                bars["uploaded"].set_label(
                    f"uploaded ({reason}, trying again)" if reason else "uploaded"
                )

            def on_left(seconds: float) -> None:
                # What is not uploaded yet is not counted by the service.
                if len(self.known) == len(self._items):
                    bars["finished"].set_left(seconds)

            async with repeat_progress(self._screen, self.describe_progress):
                return await uploading.send(
                    client,
                    self._items,
                    wait=self._wait,
                    on_done=on_done,
                    on_accepted=on_accepted,
                    on_wait=on_wait,
                    on_bytes=_count_mib(bars[LARGE]) if large_bytes else _ignore,
                    on_left=on_left,
                )

    def interrupted_error(self) -> CommandError:
        """What Ctrl-C left."""
        unsent = len(self._items) - len(self.known)
        return interrupted_error(
            f"{count_states(self.known.values())}, {unsent:,} not sent",
            hint=advise(self.known.values(), unsent=unsent > 0),
        )

    def describe_progress(self) -> str:
        """How far it is, on one line."""
        total = len(self._items)
        return f"{len(self.known):,} of {total:,} documents: {count_states(self.known.values())}"


def send(run: Run, items: list[uploading.Item], *, wait: bool) -> int:
    """Sends documents with a progress bar and shows the outcomes; returns the exit code."""
    screen, sending = run.screen, Sending(run.screen, items, wait=wait)
    try:
        outcomes = run.with_client(sending.run)
    except KeyboardInterrupt as error:
        raise sending.interrupted_error() from error
    show.show_notes(screen, items)
    show.show_outcomes(screen, outcomes)
    screen.say(count_states(outcomes))
    screen.note(count_same_content(outcomes))
    screen.note(advise(outcomes, unsent=any(each.state == "NOT_SENT" for each in outcomes)))
    return exit_code(outcomes)


def _count_mib(bar: Bar) -> Callable[[int], None]:
    """Counts bytes on a bar of MiB."""
    total = 0

    def count(moved: int) -> None:
        nonlocal total
        before, total = total, total + moved
        bar.advance((total >> 20) - (before >> 20))

    return count


def _ignore(_: object) -> None:
    return


def _large_bytes(item: uploading.Item) -> int:
    """Size of a file that is sent in parts; 0 for others, and for one that cannot be read."""
    try:
        size_bytes = item.file.stat().st_size if item.file else 0
    except OSError:
        return 0
    return size_bytes if size_bytes > uploading.STREAM_MAX_BYTES else 0


@asynccontextmanager
async def repeat_progress(
    screen: Screen, describe_progress: Callable[[], str]
) -> AsyncIterator[None]:
    """Prints changed progress every `REPEAT_S` if there is no progress bar, other less often."""
    clock = asyncio.get_running_loop().time

    async def say() -> None:
        said, said_at = "", clock()
        while True:
            await asyncio.sleep(REPEAT_S)
            progress = describe_progress()
            if progress != said or clock() - said_at >= REPEAT_UNCHANGED_S:
                said, said_at = progress, clock()
                screen.note(progress)

    if screen.animated:
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


def count_same_content(outcomes: Iterable[uploading.Outcome]) -> str:
    """How many documents have the bytes of others; empty if none has."""
    count = sum(bool(outcome.same_content) for outcome in outcomes)
    if not count:
        return ""
    have = "document has" if count == 1 else "documents have"
    return f"{count:,} {have} the content of others; --json names them"


def count_states(outcomes: Iterable[uploading.Outcome]) -> str:
    """The number of outcomes in each state."""
    counts = Counter(outcome.state for outcome in outcomes)
    return ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items())) or "nothing"
