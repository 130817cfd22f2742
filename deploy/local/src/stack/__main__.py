"""Command line of the local stack: `python -m stack up --data-dir DIR`."""

import argparse
import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from chassis.base.errors import ServiceError
from stack.supervisor import Notice, StopRequest, StopRequestedError
from stack.up import Stack

_OWNER_ONLY = 0o077
HINTS = {"DATA_DIR_IN_USE": "it is already running; `aquifer status` shows its state"}


class Console:
    """Prints what happens, for people or for programs (`json_lines`: one object per line)."""

    def __init__(self, *, json_lines: bool) -> None:
        self._json_lines = json_lines

    def show_start(self, folder: Path) -> None:
        """Prints the data folder, for people only; programs get the addresses with `ready`."""
        # A closed stderr must not prevent the start.
        with suppress(OSError):
            sys.stderr.write("" if self._json_lines else f"starting in {folder}; Ctrl-C stops it\n")

    def show_notice(self, notice: Notice) -> None:
        """Prints an event of a part."""
        self._write(
            {"event": notice.event, "part": notice.part, "detail": notice.detail},
            f"{notice.part:<10}  {notice.event:<10}  {notice.detail}",
        )

    def show_ready(self, endpoints: Path, seconds: float) -> None:
        """Prints that every part is ready: the only line for people with the word `ready`."""
        self._write(
            {"event": "ready", "endpoints": str(endpoints), "seconds": round(seconds, 2)},
            f"Aquifer is ready after {seconds:.1f} s. Addresses and the first key: {endpoints}",
        )

    def show_failure(self, reason: str, detail: str) -> None:
        """Prints why the stack ends."""
        hint = HINTS.get(reason, "")
        self._write(
            {"event": "failed", "error": {"reason": reason, "detail": detail, "hint": hint}},
            "\n".join(filter(None, [f"{reason}: {detail}", hint])),
        )

    def _write(self, fields: dict[str, object], text: str) -> None:
        try:
            sys.stdout.write((json.dumps(fields) if self._json_lines else text) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # A closed pipe must not stop the stack.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def up(path: Path, base_port: int | None, console: Console, *, stop_with_stdin: bool) -> int:
    """Runs the stack until SIGTERM, SIGINT or SIGHUP; returns the exit code."""
    began = time.monotonic()
    with StopRequest() as stop:
        if stop_with_stdin:
            threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
        try:
            with Stack(
                path, base_port=base_port, say=console.show_notice, stop=stop, alone=True
            ) as stack:
                console.show_start(stack.data.path)
                stack.start()
                console.show_ready(stack.data.endpoints, time.monotonic() - began)
                stack.supervise()
        except StopRequestedError:
            return 0
        except ServiceError as error:
            if stop.made:
                return 0
            console.show_failure(error.reason, error.detail)
            return 1
    return 0


def _stop_at_end_of_input(stop: StopRequest) -> None:
    """Stops when standard input is closed, because the process at its other end has ended."""
    while os.read(sys.stdin.fileno(), 4096):
        continue
    stop()


def main(arguments: list[str]) -> int:
    """Parses the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__)
    commands = parser.add_subparsers(required=True)
    starting = commands.add_parser("up", help="start everything and run until stopped")
    starting.add_argument(
        "--data-dir", type=Path, required=True, help="created if it does not exist"
    )
    starting.add_argument("--base-port", type=int, help="first of 13 ports; default: free ones")
    starting.add_argument("--json", action="store_true", help="one JSON object per line")
    starting.add_argument(
        "--stop-with-stdin", action="store_true", help="stop when stdin is closed"
    )
    options = parser.parse_args(arguments)
    os.umask(_OWNER_ONLY)
    console = Console(json_lines=options.json)
    return up(options.data_dir, options.base_port, console, stop_with_stdin=options.stop_with_stdin)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
