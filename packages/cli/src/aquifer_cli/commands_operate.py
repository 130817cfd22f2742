"""The commands of operators: dead letters, and differences between the stores.

They follow those of administrators.

Like all commands they import what they need when they run.
"""

import sys
from typing import TYPE_CHECKING

import click

from aquifer.services import NAMES
from aquifer_cli.command import Commands, Run, command
from aquifer_cli.commands_events import cli
from aquifer_cli.errors import EXIT_FAILED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aquifer.ops.v1.dead_letter_service_pb2 import DeadLetter
    from aquifer.ops.v1.reconcile_service_pb2 import ReconcileResponse
    from aquifer_cli.client import Client
    from aquifer_cli.dead_letters import Ref, Which
    from aquifer_cli.errors import CommandError

    Act = Callable[[Client, Ref], Awaitable[None]]

__all__ = ["cli"]

ROWS_SHOWN = 200
_SERVICE = click.option(
    "--service", default="", type=click.Choice(["", *NAMES]), metavar="NAME", help="Only of this."
)
_TENANT = click.option("--tenant", default="", help="Only events of this tenant.")
_REASON = click.option("--reason", default="", help="Only with this reason.")
_ALL = click.option("--all", "every", is_flag=True, help="All, or all that the filters choose.")
_YES = click.option("--yes", "-y", is_flag=True, help="Do not ask before.")
_IDS = click.argument("ids", nargs=-1, metavar="[ID]...")


@cli.group("dead-letters", cls=Commands)
def dead_letters() -> None:
    """Lists, replays and discards failed events.

    A dead letter is an event that could not be handled. The service that consumed it keeps it for
    90 days. The key in use needs the scope operate; what is read, replayed and discarded is
    logged. A service that does not answer is named, the others go on, and the exit code is 3.
    """


@command(
    dead_letters,
    "list",
    examples="""\
  aquifer dead-letters list --service ingest
  aquifer dead-letters list --reason TENANT_UNKNOWN --tenant acme
  aquifer dead-letters list --json | jq -r .reason | sort | uniq -c""",
)
@_SERVICE
@_REASON
@_TENANT
def list_dead_letters(run: Run, service: str, reason: str, tenant: str) -> int:
    """Lists the dead letters of all services, oldest first in each."""
    from aquifer_cli import dead_letter_show as showing
    from aquifer_cli import dead_letters as letters
    from aquifer_cli.operators import report_failed

    shown: list[tuple[Ref, DeadLetter]] = []
    more = False

    def on_letter(ref: "Ref", letter: "DeadLetter") -> bool:
        nonlocal more
        if run.screen.machine:
            run.screen.record(showing.summary_json(ref, letter))
        elif len(shown) < ROWS_SHOWN:
            shown.append((ref, letter))
        else:
            more = True
        return not more

    which = letters.Which(service=service, tenant=tenant, reason=reason)
    failed = run.with_client(lambda client: letters.list_letters(client, which, on_letter))
    if shown or more or not failed:
        showing.show_list(run.screen, shown, more=more)
    return report_failed(run.screen, failed)


@command(
    dead_letters,
    "show",
    examples="""\
  aquifer dead-letters show ingest/12
  aquifer dead-letters show ingest/12 --content --json | jq .body""",
)
@click.argument("letter_id", metavar="ID")
@click.option("--content", is_flag=True, help="With the document's text and bytes.")
def show_dead_letter(run: Run, letter_id: str, *, content: bool) -> int:
    """Shows why an event failed, its body, and what to do.

    ID is as `aquifer dead-letters list` shows it. The document's text, title and bytes are left
    out without --content.
    """
    from aquifer_cli import dead_letter_show as showing
    from aquifer_cli import dead_letters as letters

    ref = letters.parse_ref(letter_id)
    response = run.with_client(lambda client: letters.read(client, ref))
    if run.screen.machine:
        run.screen.record(showing.details_json(ref, response, content=content))
    else:
        showing.show_details(run.screen, ref, response, content=content)
    return 0


@command(
    dead_letters,
    "replay",
    examples="""\
  aquifer dead-letters replay ingest/12 query/3
  aquifer dead-letters replay --reason TENANT_UNKNOWN --tenant acme
  aquifer dead-letters replay --all --service query --yes""",
)
@_IDS
@_ALL
@_SERVICE
@_REASON
@_TENANT
@_YES
def replay_dead_letters(
    run: Run,
    ids: tuple[str, ...],
    service: str,
    reason: str,
    tenant: str,
    *,
    every: bool,
    yes: bool,
) -> int:
    """Handles events again, after their cause was fixed.

    Each is handled at once, and removed if that works; otherwise it stays, with the reason. Asks
    before in a terminal. Exit code 1 when one failed.
    """
    from aquifer_cli import dead_letters as letters

    which = _choose(ids, service, reason, tenant, every=every)
    return _settle(run, ids, which, letters.replay, ("replay", "replayed"), yes=yes)


@command(
    dead_letters,
    "discard",
    examples="""\
  aquifer dead-letters discard ingest/12
  aquifer dead-letters discard --reason EVENT_UNDECODABLE --tenant acme --yes""",
)
@_IDS
@_ALL
@_SERVICE
@_REASON
@_TENANT
@_YES
def discard_dead_letters(
    run: Run,
    ids: tuple[str, ...],
    service: str,
    reason: str,
    tenant: str,
    *,
    every: bool,
    yes: bool,
) -> int:
    """Removes events that will never be handled. It cannot be undone.

    Asks before in a terminal. Exit code 1 when one failed.
    """
    from aquifer_cli import dead_letters as letters

    which = _choose(ids, service, reason, tenant, every=every)
    return _settle(run, ids, which, letters.discard, ("discard", "discarded"), yes=yes)


def _choose(
    ids: tuple[str, ...], service: str, reason: str, tenant: str, *, every: bool
) -> "Which | None":
    """The filter that was given; None if ids were."""
    from aquifer_cli.dead_letters import Which

    if bool(ids) == bool(every or reason or service or tenant):
        raise click.UsageError("give the ID of one or several, or --reason R, or --all")
    if not ids and not (every or reason):
        raise click.UsageError("--service and --tenant need --reason R or --all")
    return None if ids else Which(service=service, tenant=tenant, reason=reason)


def _settle(
    run: Run,
    ids: tuple[str, ...],
    which: "Which | None",
    act: "Act",
    verbs: tuple[str, str],
    *,
    yes: bool,
) -> int:
    """Replays or discards what was chosen, after a question; returns the exit code."""
    from aquifer_cli import dead_letter_show as showing
    from aquifer_cli import dead_letters as letters
    from aquifer_cli.operators import report_failed

    verb, done = verbs
    refs = list(dict.fromkeys(map(letters.parse_ref, ids)))
    failed: Mapping[str, CommandError] = {}
    if which is not None:
        refs, failed = run.with_client(lambda client: letters.find(client, which))
    count = f"{len(refs):,} dead {'letter' if len(refs) == 1 else 'letters'}"
    asks = refs and not yes and run.screen.animated and sys.stdin.isatty()
    if asks and not click.confirm(f"{verb} {count}?", err=True):
        run.screen.note("nothing was changed")
        return EXIT_FAILED
    with run.screen.show_progress(**{done: len(refs)}) as bars:

        def on_result(ref: "Ref", error: "CommandError | None") -> None:
            bars[done].advance()
            if run.screen.machine:
                result = {"id": str(ref), "result": "FAILED" if error else done.upper()}
                run.screen.record({**result, **(error.as_json() if error else {})})

        summary = run.with_client(lambda client: letters.settle(client, refs, act, on_result))
    showing.show_summary(run.screen, summary, done)
    return report_failed(run.screen, failed) or summary.exit_code


@command(
    cli,
    "reconcile",
    examples="""\
  aquifer reconcile --dry-run
  aquifer reconcile -c handbook
  aquifer reconcile --dry-run --json | jq 'select(.found > 0)'""",
)
@click.option("--dry-run", is_flag=True, help="Only report, change nothing.")
@click.option("--collection", "-c", default="", help="Only this collection, of every tenant.")
def reconcile(run: Run, collection: str, *, dry_run: bool) -> int:
    """Finds and repairs differences between the stores.

    Compares the documents of ingest, its object store, the passages of query and the vectors, of
    all tenants. Everything that can be repaired without an operator is repaired by the services
    themselves within minutes; this command does it now, and says what it found. It can be
    repeated, and stopped at any time. The key in use needs the scope operate.

    Exit code 1 when differences are left, with --dry-run when there are any; 3 when a service did
    not answer.
    """
    from aquifer_cli import names
    from aquifer_cli import reconcile as reconciling
    from aquifer_cli.operators import report_failed

    if collection:
        names.check_collection(collection)
    report = reconciling.Report(dry_run=dry_run)
    with run.screen.show_progress(compared=None) as bars:

        def on_slice(service: str, response: "ReconcileResponse") -> None:
            bars["compared"].set_label(reconciling.describe_slice(service, response))
            bars["compared"].advance(response.checked)

        failed = run.with_client(
            lambda client: reconciling.run(client, report, collection, on_slice)
        )
    if run.screen.machine:
        for one in reconciling.as_json(report):
            run.screen.record(one)
    reconciling.show(run.screen, report)
    return report_failed(run.screen, failed) or report.exit_code
