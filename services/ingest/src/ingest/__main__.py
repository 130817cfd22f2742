"""`python -m ingest serve | migrate`; settings are in AQUIFER_* variables."""

import argparse
import sys
from functools import partial

import psycopg
from pydantic import ValidationError

from chassis.base.errors import ServiceError
from chassis.base.postgres import migrate
from chassis.base.settings import DatabaseSettings
from chassis.process import lifecycle as service
from chassis.process import reconcile
from ingest.app import SERVICE, build
from ingest.rpc import ACCESS
from ingest.settings import Settings


def _serve() -> int:
    settings = Settings.model_validate({})
    access = {**ACCESS, **reconcile.ACCESS}
    return service.run(SERVICE, settings, partial(build, settings=settings), access)


def _migrate() -> int:
    dsn = DatabaseSettings.model_validate({}).postgres_dsn.get_secret_value()
    for name in migrate(dsn, SERVICE):
        sys.stdout.write(f"applied {name}\n")
    return 0


def main() -> int:
    """Runs the command. 0: done. 1: it failed."""
    parser = argparse.ArgumentParser(prog="python -m ingest", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="run the service until it is stopped")
    commands.add_parser("migrate", help="update the schema; needs the owner's role")
    try:
        return _serve() if parser.parse_args().command == "serve" else _migrate()
    except ValidationError as error:
        sys.stderr.write(f"{error}\n")
    except ServiceError as error:
        sys.stderr.write(f"{error.reason}: {error}\n")
    except (psycopg.Error, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
