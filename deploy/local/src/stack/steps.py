"""Steps after the start of servers, run in this process: migrations, streams and consumers."""

import asyncio
from collections.abc import Callable, Mapping

import psycopg

from chassis.base import postgres
from chassis.base.errors import UnavailableError

PROVISION_S = 30.0
_POLL_S = 0.05


def migrate(owner_dsns: Mapping[str, str]) -> list[str]:
    """Updates the schema of each service; returns the names of applied migrations.

    Args:
        owner_dsns: connection address of each service's owner role.

    Raises:
        UnavailableError: STEP_FAILED; retry.
    """
    applied = []
    for service, dsn in owner_dsns.items():
        try:
            names = postgres.migrate(dsn, service)
        except psycopg.Error as error:
            raise UnavailableError(
                "STEP_FAILED", f"the migrations of {service} failed: {error}"
            ) from error
        applied += [f"{service}: {name}" for name in names]
    return applied


def provision(url: str, user: str, password: str, *, cancelled: Callable[[], bool]) -> list[str]:
    """Creates and updates streams and consumers as the contract requires; returns the changes.

    Raises:
        UnavailableError: STEP_FAILED, the broker refused or did not answer within `PROVISION_S`, or
            `cancelled` returned true.
    """
    return asyncio.run(_run_unless_cancelled(cancelled, url, user, password))


async def _run_unless_cancelled(
    cancelled: Callable[[], bool], url: str, user: str, password: str
) -> list[str]:
    work = asyncio.create_task(_provision(url, user, password))
    while not work.done():
        if cancelled():
            work.cancel()
        await asyncio.wait({work}, timeout=_POLL_S)
    if work.cancelled():
        raise UnavailableError("STEP_FAILED", "cancelled")
    return work.result()


async def _provision(url: str, user: str, password: str) -> list[str]:
    # Imported here because nothing needs it before the servers have started.
    from nats.errors import Error as NatsError  # noqa: PLC0415
    from nats.js.errors import Error as JetStreamError  # noqa: PLC0415

    from chassis.events.bus import open_bus  # noqa: PLC0415
    from chassis.events.provision import provision as apply_contract  # noqa: PLC0415

    try:
        async with asyncio.timeout(PROVISION_S):
            async with open_bus(url, user, password, name=user, lost=lambda: None) as bus:
                await bus.wait_until_connected()
                changes = await apply_contract(bus.jetstream, replicas=1, apply=True)
    except (NatsError, JetStreamError, TimeoutError, OSError) as error:
        raise UnavailableError(
            "STEP_FAILED",
            f"streams and consumers were not declared: {type(error).__name__} {error}".rstrip(),
        ) from error
    return [str(change) for change in changes]
