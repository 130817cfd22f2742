"""`aquifer dead-letters`: lists, shows, replays and discards those of all services."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import grpc

from aquifer.ops.v1.dead_letter_service_pb2 import (
    DeadLetter,
    DiscardDeadLetterRequest,
    GetDeadLetterRequest,
    GetDeadLetterResponse,
    ListDeadLettersRequest,
    ReplayDeadLetterRequest,
)
from aquifer.ops.v1.dead_letter_service_pb2_grpc import DeadLetterServiceStub
from aquifer.services import NAMES
from aquifer_cli.client import Client
from aquifer_cli.concurrency import run_concurrently
from aquifer_cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_USAGE, CommandError
from aquifer_cli.operators import NOT_OFFERED, ask_each

PAGE = 500
READ_S = 15.0
# A replay does the whole work of the event, parsing included.
REPLAY_S = 300.0
AT_ONCE = 8
FAILURES_KEPT = 1_000
_ID_MAX = 2**63 - 1
_REF = re.compile(r"(?P<service>[a-z]+)/(?P<number>[0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Ref:
    """The name of a dead letter: its service, and its id there."""

    service: str
    number: int

    def __str__(self) -> str:  # type: ignore[explicit-override]
        return f"{self.service}/{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which dead letters are meant; an empty filter matches all."""

    service: str = ""
    tenant: str = ""
    reason: str = ""

    @property
    def services(self) -> tuple[str, ...]:
        """The services to ask."""
        return (self.service,) if self.service else NAMES


def parse_ref(text: str) -> Ref:
    """Reads `ingest/12`.

    Raises:
        CommandError: DEAD_LETTER_ID.
    """
    match = _REF.fullmatch(text)
    if not match or match["service"] not in NAMES or not 0 < int(match["number"]) <= _ID_MAX:
        raise CommandError(
            "DEAD_LETTER_ID",
            f"{text!r} is not the id of a dead letter",
            hint="ids look like ingest/12; `aquifer dead-letters list` shows them",
            exit_code=EXIT_USAGE,
        )
    return Ref(match["service"], int(match["number"]))


async def list_letters(
    client: Client, which: Which, on_letter: Callable[[Ref, DeadLetter], bool]
) -> Mapping[str, CommandError]:
    """Calls `on_letter` with each dead letter, service after service, until it returns False.

    Returns the services that did not answer.
    """

    async def ask(service: str, channel: grpc.aio.Channel) -> None:
        async for letter in _list_of(client, channel, which):
            if not on_letter(Ref(service, letter.dead_letter_id), letter):
                return

    return await ask_each(client, which.services, ask)


async def _list_of(
    client: Client, channel: grpc.aio.Channel, which: Which
) -> AsyncIterator[DeadLetter]:
    stub, token = DeadLetterServiceStub(channel), ""
    while True:
        request = ListDeadLettersRequest(
            page_size=PAGE, page_token=token, tenant=which.tenant, reason=which.reason
        )
        page = await client.call(stub.ListDeadLetters, request, timeout_s=READ_S)
        for letter in page.dead_letters:
            yield letter
        token = page.next_page_token
        if not token:
            return


async def find(client: Client, which: Which) -> tuple[list[Ref], Mapping[str, CommandError]]:
    """The names of all that match, and the services that did not answer."""
    found: list[Ref] = []

    def note(ref: Ref, _letter: DeadLetter) -> bool:
        found.append(ref)
        return True

    failed = await list_letters(client, which, note)
    return found, failed


async def read(client: Client, ref: Ref) -> GetDeadLetterResponse:
    """Reads one with its headers and bytes; the service logs who did."""
    stub = DeadLetterServiceStub(client.channels[ref.service])
    request = GetDeadLetterRequest(dead_letter_id=ref.number)
    try:
        response: GetDeadLetterResponse = await client.call(
            stub.GetDeadLetter, request, timeout_s=READ_S
        )
    except CommandError as error:
        raise _explain(ref, error) from error
    return response


def _explain(ref: Ref, error: CommandError) -> CommandError:
    if error.reason != NOT_OFFERED:
        return error
    return CommandError(
        "DEAD_LETTER_ID",
        f"{ref.service} consumes no events, so it has no dead letters",
        hint="`aquifer dead-letters list` shows them",
        exit_code=EXIT_USAGE,
    )


async def replay(client: Client, ref: Ref) -> None:
    """Handles one again; it is removed if that works."""
    stub = DeadLetterServiceStub(client.channels[ref.service])
    request = ReplayDeadLetterRequest(dead_letter_id=ref.number)
    await client.call(stub.ReplayDeadLetter, request, timeout_s=REPLAY_S)


async def discard(client: Client, ref: Ref) -> None:
    """Removes one for good."""
    stub = DeadLetterServiceStub(client.channels[ref.service])
    request = DiscardDeadLetterRequest(dead_letter_id=ref.number)
    await client.call(stub.DiscardDeadLetter, request, timeout_s=READ_S)


@dataclass(slots=True, kw_only=True)
class Summary:
    """What was done to dead letters; failures beyond `FAILURES_KEPT` are only counted."""

    done: list[Ref] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[Ref, CommandError]] = field(default_factory=list)
    unreachable: bool = False

    @property
    def exit_code(self) -> int:
        """An unreachable service takes precedence over a failure."""
        if self.unreachable:
            return EXIT_UNAVAILABLE
        return EXIT_FAILED if self.failed else 0


async def settle(
    client: Client,
    refs: Iterable[Ref],
    act: Callable[[Client, Ref], Awaitable[None]],
    on_result: Callable[[Ref, CommandError | None], None],
) -> Summary:
    """Replays or discards dead letters, some at a time; one that fails does not stop the others.

    Raises:
        CommandError: the key is not accepted or lacks the scope.
    """
    summary, down = Summary(), dict[str, CommandError]()

    async def settle_one(ref: Ref) -> None:
        error = down.get(ref.service) or await _try(client, ref, act)
        if error is None:
            summary.done.append(ref)
        else:
            if error.reason == "UNAVAILABLE":
                # No server answers there: the other dead letters need not find out again.
                down[ref.service] = error
            summary.unreachable |= error.exit_code == EXIT_UNAVAILABLE
            summary.failed[error.reason] += 1
            if len(summary.failures) < FAILURES_KEPT:
                summary.failures.append((ref, error))
        on_result(ref, error)

    await client.sign_in()
    await run_concurrently(settle_one, refs, AT_ONCE)
    return summary


async def _try(
    client: Client, ref: Ref, act: Callable[[Client, Ref], Awaitable[None]]
) -> CommandError | None:
    try:
        await act(client, ref)
    except CommandError as error:
        if error.of_key:
            raise
        return _explain(ref, error)
    return None
