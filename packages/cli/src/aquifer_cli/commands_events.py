"""The commands of producers: they check events before these are published.

Like all commands they import what they need when they run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aquifer_cli.command import Commands, Run, command
from aquifer_cli.commands_admin import cli
from aquifer_cli.errors import EXIT_FAILED

if TYPE_CHECKING:
    from aquifer_cli.event_check import Report
    from aquifer_cli.screen import Screen

__all__ = ["cli"]


@cli.group(cls=Commands)
def events() -> None:
    """Checks the events that upstream systems publish."""


@command(
    events,
    "check",
    folder=False,
    examples="""\
  aquifer events check upload.json
  aquifer events check samples/*.bin --tenant acme --json
  my-producer --dry-run | aquifer events check - --tenant acme
  aquifer events check removal.bin --event DocumentRemoved
  aquifer events check body.bin -H ce-id:1 -H ce-source:/dms -H ce-specversion:1.0 \\
      -H ce-type:aquifer.ingest.v1.DocumentUploaded""",
)
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path)
)
@click.option("--tenant", default="", help="Tenant of the subject; the event must name the same.")
@click.option(
    "--event",
    "event",
    type=click.Choice(["DocumentUploaded", "DocumentRemoved", "DocumentDescribed"]),
    help="Kind of event of the subject. Default: the one that the event names, else an upload.",
)
@click.option(
    "--header",
    "-H",
    "headers",
    multiple=True,
    metavar="NAME:VALUE",
    help="Header of the message, for an event in binary mode; may be repeated.",
)
def check(
    run: Run, files: tuple[Path, ...], tenant: str, event: str | None, headers: tuple[str, ...]
) -> int:
    """Checks events of upstream systems as ingest does; needs no running stack.

    A FILE, or - for standard input, is an event in protobuf, in JSON, or a CloudEvent in structured
    mode; JSON files may have an event in each line. Whether the tenant exists and a reference can
    be read is known to ingest only. Exit code 1: an event would be refused.
    """
    from aquifer_cli import event_check
    from aquifer_cli.event_files import read_events

    given, kind = _read_headers(headers), event_check.KINDS[event] if event else None
    reports: list[tuple[str, Report]] = []
    for path in files:
        for candidate in read_events(path):
            report = event_check.check(candidate.payload, given, tenant, kind)
            if run.screen.machine:
                run.screen.record(_as_json(candidate.where, report))
            reports.append((candidate.where, report))
    _show(run.screen, reports)
    return 0 if all(report.is_valid for _, report in reports) else EXIT_FAILED


def _read_headers(headers: Sequence[str]) -> dict[str, str]:
    found = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f"--header {header!r} is not NAME:VALUE")
        found[name.strip()] = value.strip()
    return found


def _as_json(where: str, report: "Report") -> dict[str, object]:
    return {
        "event": where,
        "valid": report.is_valid,
        "id": report.event_id,
        "document": report.document,
        "findings": [
            {
                "at": one.at,
                "reason": one.reason,
                "detail": one.detail,
                "severity": "warning" if one.warning else "error",
            }
            for one in report.findings
        ],
    }


def _show(screen: "Screen", reports: "Sequence[tuple[str, Report]]") -> None:
    from aquifer_cli.layout import Row

    rows = [
        Row(
            cells=(where, one.at, f"warning: {one.reason}" if one.warning else one.reason),
            below=one.detail,
        )
        for where, report in reports
        for one in report.findings
    ]
    screen.table(["event", "at", "reason"], rows)
    refused = sum(not report.is_valid for _, report in reports)
    valid = len(reports) - refused
    noun = "event" if len(reports) == 1 else "events"
    screen.say(f"{len(reports):,} {noun}: {valid:,} valid, {refused:,} would be refused")
