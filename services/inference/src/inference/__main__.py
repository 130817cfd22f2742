"""`python -m inference serve`; settings are in AQUIFER_*."""

import argparse
import sys
from functools import partial

from pydantic import ValidationError

from chassis.base.errors import ServiceError
from chassis.process import lifecycle as service
from inference import model_rpc, rpc
from inference.app import SERVICE, build
from inference.settings import Settings


def main() -> int:
    """Runs the service. Returns 0: stopped by a signal, 1: not started, or the bus was lost."""
    parser = argparse.ArgumentParser(prog="python -m inference", description=__doc__)
    parser.add_argument("command", choices=["serve"])
    parser.parse_args()
    try:
        settings = Settings.model_validate({})
        access = {**rpc.ACCESS, **model_rpc.ACCESS}
        return service.run(SERVICE, settings, partial(build, settings=settings), access)
    except (ValidationError, ServiceError) as error:
        sys.stderr.write(f"{error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
