"""Start the vector process: `python -m query.vectors --socket PATH --data DIR`.

AQUIFER_OTLP_ENDPOINT, AQUIFER_METRICS_LISTEN and others are the same as for every service.
AQUIFER_VECTORS_QUANTIZATION is for new stores: none, turbo4 or turbo2.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

import uvloop
from pydantic import ValidationError

from chassis.base import logs
from query.vectors.server import NAME, Options, Settings, SocketInUseError, compact, serve
from query.vectors.stores import DataInUseError

log = logging.getLogger(__name__)

EXIT_BROKEN = 1
EXIT_IN_USE = 3


def main() -> int:
    """Serve or compact; the exit status says how it ended."""
    parser = argparse.ArgumentParser(prog="python -m query.vectors", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the stores")
    job = parser.add_mutually_exclusive_group(required=True)
    job.add_argument("--socket", type=Path, help="unix socket to serve on, created with mode 0600")
    job.add_argument(
        "--compact",
        action="store_true",
        help="free the disk space of removed points, then exit; refused while a process serves",
    )
    parser.add_argument(
        "--dimensions", type=int, default=384, help="dimensions of a store whose creator names none"
    )
    asked = parser.parse_args()
    logs.start(NAME)
    os.umask(0o077)  # before socket and files are created: only this user may open them
    try:
        if asked.compact:
            compact(asked.data)
            return 0
        options = Options(socket=asked.socket, data=asked.data, dimensions=asked.dimensions)
        settings = Settings.model_validate({})
        return 0 if uvloop.run(serve(options, settings)) else EXIT_BROKEN
    except (DataInUseError, SocketInUseError) as error:
        log.error("vectors.refused", extra={"reason": str(error)})  # noqa: TRY400 (no bug, no trace)
        return EXIT_IN_USE
    except ValidationError as error:
        log.error("vectors.refused", extra={"reason": str(error)})  # noqa: TRY400
        return EXIT_BROKEN


if __name__ == "__main__":
    sys.exit(main())
