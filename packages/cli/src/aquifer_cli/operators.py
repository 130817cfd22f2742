"""What the commands of operators share: they ask every service that offers an operator service."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import grpc

from aquifer_cli.client import Client
from aquifer_cli.errors import EXIT_UNAVAILABLE, CommandError
from aquifer_cli.screen import Screen

T = TypeVar("T")
# The answer of a service that does not offer the operator service.
NOT_OFFERED = "METHOD_UNKNOWN"


async def ask_each(
    client: Client,
    services: tuple[str, ...],
    ask: Callable[[str, grpc.aio.Channel], Awaitable[None]],
) -> Mapping[str, CommandError]:
    """Asks one service after the other; returns those that did not answer, and why.

    Raises:
        CommandError: the key is not accepted or lacks the scope.
    """
    await client.sign_in()
    failed: dict[str, CommandError] = {}
    for service in services:
        try:
            await ask(service, client.channels[service])
        except CommandError as error:
            if error.of_key:
                raise
            if error.reason != NOT_OFFERED:
                failed[service] = error
    return failed


def report_failed(screen: Screen, failed: Mapping[str, CommandError]) -> int:
    """Names the services that did not answer; returns the exit code."""
    for service, error in failed.items():
        if screen.machine:
            screen.record({"service": service, **error.as_json()})
        else:
            screen.fail(f"{service}: {error.reason}: {error.detail}", error.hint)
    return EXIT_UNAVAILABLE if failed else 0
