"""`python -m query serve | migrate`; settings are in AQUIFER_* variables."""

import argparse
import os
import sys
from functools import partial

import psycopg
from pydantic import ValidationError

from chassis.base.errors import ServiceError
from chassis.base.postgres import migrate
from chassis.process import lifecycle as service
from chassis.process import reconcile
from query import conversation_rpc, profile_rpc, prompt_rpc
from query.app import SERVICE, build
from query.rpc import ACCESS
from query.settings import Settings


def main() -> int:
    """Runs a command. 0: done, or stopped by a signal. 1: it failed, or lost the bus."""
    parser = argparse.ArgumentParser(prog="python -m query", description=__doc__)
    parser.add_argument(
        "command",
        choices=["serve", "migrate"],
        help="migrate only needs AQUIFER_POSTGRES_DSN, of the owner role",
    )
    command = parser.parse_args().command
    try:
        if command == "migrate":
            for name in migrate(os.environ["AQUIFER_POSTGRES_DSN"], SERVICE):
                sys.stdout.write(f"applied {name}\n")
            return 0
        settings = Settings.model_validate({})
        access = {
            **ACCESS,
            **conversation_rpc.ACCESS,
            **profile_rpc.ACCESS,
            **prompt_rpc.ACCESS,
            **reconcile.ACCESS,
        }
        return service.run(SERVICE, settings, partial(build, settings=settings), access)
    except KeyError as error:
        sys.stderr.write(f"set {error.args[0]}\n")
    except (ValidationError, ServiceError, psycopg.Error) as error:
        sys.stderr.write(f"{error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
