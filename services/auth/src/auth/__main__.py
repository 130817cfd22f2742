"""`python -m auth serve | migrate | bootstrap | service-key`; the rest is in AQUIFER_*."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import psycopg
from pydantic import ValidationError

from auth.app import SERVICE, bootstrap, builder, issue_service_key
from auth.domain import ApiKey
from auth.rpc import ACCESS
from auth.settings import PepperSettings, Settings
from auth.usecases.founding import ALREADY_FOUNDED, FirstKeys
from auth.usecases.service_keys import SERVICES
from chassis.base.errors import ServiceError
from chassis.base.postgres import migrate
from chassis.base.settings import DatabaseSettings
from chassis.process import lifecycle as service

MAKING_MAX_S = 60.0

Made = TypeVar("Made")
Keep = Callable[[str], None]


def _serve() -> int:
    settings = Settings.model_validate({})
    return service.run(SERVICE, settings, builder(settings), ACCESS)


def _migrate() -> int:
    dsn = DatabaseSettings.model_validate({}).postgres_dsn.get_secret_value()
    for name in migrate(dsn, SERVICE):
        sys.stdout.write(f"applied {name}\n")
    return 0


def _bootstrap(tenant: str, display_name: str, output: Path) -> int:
    settings = PepperSettings.model_validate({})

    async def make(keep: Keep) -> None:
        await bootstrap(settings, tenant, display_name, lambda keys: keep(_shown(keys)))

    try:
        _make(output, make)
    except ServiceError as error:
        if error.reason != ALREADY_FOUNDED:
            raise
        sys.stderr.write(f"refused: {error.reason}: {error}\n")
        return 2
    sys.stdout.write(f"tenant {tenant} is made; the first keys are in {output} alone\n")
    return 0


def _shown(keys: FirstKeys) -> str:
    return json.dumps(
        {
            "tenant": keys.tenant_id,
            "api_key": keys.operator.reveal(),
            "service_keys": {name: key.reveal() for name, key in keys.services.items()},
        },
        indent=1,
    )


def _issue_service_key(name: str, output: Path) -> int:
    settings = PepperSettings.model_validate({})

    async def make(keep: Keep) -> ApiKey:
        return await issue_service_key(settings, name, lambda text: keep(text.reveal()))

    key = _make(output, make)
    sys.stdout.write(
        f"key {key.key_id} of {name} lasts until {key.expire_time:%Y-%m-%d} and is in {output}"
        " alone; its older keys go on\n"
    )
    return 0


def _make(output: Path, make: Callable[[Keep], Awaitable[Made]]) -> Made:
    """Runs what makes keys, in bounded time, and keeps their text in `output`."""
    written = False

    def keep(text: str) -> None:
        nonlocal written
        _write(output, text)
        written = True

    async def bounded() -> Made:
        try:
            async with asyncio.timeout(MAKING_MAX_S):
                return await make(keep)
        except BaseException:
            if written:
                sys.stderr.write(f"whether what is in {output} counts is not known; try it\n")
            raise

    return asyncio.run(bounded())


def _write(output: Path, text: str) -> None:
    """Writes keys where only their owner reads them, on the disk before they count."""
    new = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(new, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(output.parent)
    except BaseException:
        output.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m auth", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="run the service until told to stop")
    commands.add_parser("migrate", help="bring the schema up to date; needs the owner's role")
    first = commands.add_parser("bootstrap", help="make the first tenant and keys, once")
    first.add_argument("--tenant", required=True, help="id of the first tenant")
    first.add_argument("--display-name", default="", help="for people; by default the id")
    first.add_argument("--output", required=True, type=Path, help="new file for the keys")
    further = commands.add_parser("service-key", help="make a further key of a service")
    further.add_argument("--service", required=True, choices=SERVICES, help="whose key")
    further.add_argument("--output", required=True, type=Path, help="new file for the key")
    return parser.parse_args()


def main() -> int:
    """Runs the command. 0: done. 1: it failed. 2: refused, the platform has keys."""
    arguments = _arguments()
    try:
        match arguments.command:
            case "serve":
                return _serve()
            case "migrate":
                return _migrate()
            case "service-key":
                return _issue_service_key(arguments.service, arguments.output)
            case _:
                name = arguments.display_name or arguments.tenant
                return _bootstrap(arguments.tenant, name, arguments.output)
    except ValidationError as error:
        sys.stderr.write(f"{error}\n")
    except ServiceError as error:
        sys.stderr.write(f"{error.reason}: {error}\n")
    except (psycopg.Error, OSError, TimeoutError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
