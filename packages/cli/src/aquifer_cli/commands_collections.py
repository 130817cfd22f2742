"""The commands for whole collections. They follow those for documents.

Like all commands they import what they need when they run.
"""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aquifer_cli import names
from aquifer_cli.command import Run, command
from aquifer_cli.commands import cli
from aquifer_cli.errors import interrupted_error

if TYPE_CHECKING:
    from aquifer_cli.client import Client
    from aquifer_cli.outcome import Outcome

__all__ = ["cli"]


@command(
    cli,
    "sync",
    examples="""\
  aquifer sync docs -c handbook
  aquifer sync docs -c handbook --delete --dry-run
  aquifer sync docs -c handbook --delete --watch""",
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--collection", "-c", required=True, help="Collection id.")
@click.option("--delete", is_flag=True, help="Delete documents whose file has been removed.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--watch", is_flag=True, help="Go on with later changes, until Ctrl-C.")
@click.option("--source", default="", help="Name of the folder in the service; default: HOST:PATH.")
def sync(
    run: Run,
    folder: Path,
    collection: str,
    source: str,
    *,
    delete: bool,
    dry_run: bool,
    watch: bool,
) -> int:
    """Keeps a collection in step with a folder.

    Uploads new and changed files and waits until they are indexed or failed; unchanged files are
    not sent. Names and skipped files are those of `aquifer upload`. It can be stopped at any time:
    the same command goes on. A file that has changed in the last 2 seconds is still being written
    and waits.

    Without --delete nothing is deleted. With it, documents are that came from this folder, which is
    named in their metadata under sync.source, and whose file has been removed; none if the folder
    has no files at all, or if a folder inside cannot be read.
    """
    from aquifer_cli import show
    from aquifer_cli import sync as syncing
    from aquifer_cli.folder import check_source
    from aquifer_cli.sending import exit_code
    from aquifer_cli.sources import display_path

    if watch and dry_run:
        raise click.UsageError("--dry-run shows one look at the folder; leave out --watch")
    names.check_collection(collection)
    order = syncing.Order(
        folder=folder,
        collection=collection,
        source=check_source(source or f"{socket.gethostname()}:{display_path(folder.resolve())}"),
        delete=delete,
    )

    def show_all(outcomes: "Sequence[Outcome]") -> None:
        show.show_changes(run.screen, outcomes)
        if any(one.change == "KEPT" for one in outcomes):
            run.screen.note("kept: the file has been removed; --delete deletes the document")

    async def work(client: "Client") -> int:
        if watch:
            run.screen.note(f"watching {display_path(folder)} until Ctrl-C")
            await syncing.watch(client, run.screen, order, show_all)
        outcomes = await syncing.run(client, run.screen, order, dry_run=dry_run)
        show_all(outcomes)
        return exit_code(outcomes)

    try:
        return run.with_client(work)
    except KeyboardInterrupt as error:
        raise interrupted_error("stopped by Ctrl-C", hint="the same command goes on") from error


@command(cli, "collections", examples="  aquifer collections --json | jq .states")
def collections(run: Run) -> int:
    """Lists the collections and counts their documents."""
    from aquifer_cli import collections as listing
    from aquifer_cli import show

    async def work(client: "Client") -> int:
        found = [one async for one in listing.list_collections(client)]
        for one in found if run.screen.machine else ():
            run.screen.record(listing.as_json(one))
        show.show_collections(run.screen, found)
        return 0

    return run.with_client(work)
