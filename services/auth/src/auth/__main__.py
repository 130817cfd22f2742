"""`python -m auth serve | migrate | bootstrap | service-key`; settings are in AQUIFER_*."""

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

from auth.app import SERVICE, bootstrap, issue_service_key, make_build
from auth.domain import ApiKey
from auth.rpc import ACCESS
from auth.settings import PepperSettings, Settings
from auth.usecases.bootstrap import ALREADY_FOUNDED, FirstKeys
from auth.usecases.service_keys import SERVICES
from chassis.base.errors import ServiceError
from chassis.base.postgres import migrate
from chassis.base.settings import DatabaseSettings
from chassis.process import lifecycle as service

CREATE_MAX_S = 60.0

Result = TypeVar("Result")
Keep = Callable[[str], None]


def _serve() -> int:
    settings = Settings.model_validate({})
    return service.run(SERVICE, settings, make_build(settings), ACCESS)


def _migrate() -> int:
    dsn = DatabaseSettings.model_validate({}).postgres_dsn.get_secret_value()
    for name in migrate(dsn, SERVICE):
        sys.stdout.write(f"applied {name}\n")
    return 0


def _bootstrap(tenant: str, display_name: str, output: Path) -> int:
    settings = PepperSettings.model_validate({})

    async def make(keep: Keep) -> None:
        await bootstrap(settings, tenant, display_name, lambda keys: keep(_format_keys(keys)))

    try:
        _create(output, make)
    except ServiceError as error:
        if error.reason != ALREADY_FOUNDED:
            raise
        sys.stderr.write(f"refused: {error.reason}: {error}\n")
        return 2
    sys.stdout.write(f"created tenant {tenant}; the first keys are only in {output}\n")
    return 0


def _format_keys(keys: FirstKeys) -> str:
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

    key = _create(output, make)
    sys.stdout.write(
        f"created key {key.key_id} of {name}, valid until {key.expire_time:%Y-%m-%d}; it is only in"
        f" {output}; older keys of {name} stay valid\n"
    )
    return 0


def _create(output: Path, make: Callable[[Keep], Awaitable[Result]]) -> Result:
    """Creates keys within a time limit and writes them to `output`."""
    written = False

    def keep(text: str) -> None:
        nonlocal written
        _write(output, text)
        written = True

    async def make_in_time() -> Result:
        try:
            async with asyncio.timeout(CREATE_MAX_S):
                return await make(keep)
        except BaseException:
            if written:
                sys.stderr.write(f"the keys in {output} may or may not be valid; try them\n")
            raise

    return asyncio.run(make_in_time())


def _write(output: Path, text: str) -> None:
    """Writes keys to a synced file that only its owner can read."""
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
    commands.add_parser("serve", help="run the service until SIGTERM")
    commands.add_parser("migrate", help="update the schema; needs the owner's role")
    first = commands.add_parser("bootstrap", help="create the first tenant and keys, once")
    first.add_argument("--tenant", required=True, help="id of the first tenant")
    first.add_argument("--display-name", default="", help="name shown to people; default: the id")
    first.add_argument("--output", required=True, type=Path, help="file to create for the keys")
    further = commands.add_parser("service-key", help="create another key for a service")
    further.add_argument("--service", required=True, choices=SERVICES, help="service of the key")
    further.add_argument("--output", required=True, type=Path, help="file to create for the key")
    return parser.parse_args()


def main() -> int:
    """Runs the command. Returns 0: done, 1: failed, 2: refused, the platform has keys."""
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
