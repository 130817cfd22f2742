"""The commands for whole collections. They follow those for documents and versions.

Like all commands they import what they need when they run.
"""

import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aquifer_cli import names
from aquifer_cli.command import Commands, Run, command
from aquifer_cli.commands_versions import cli
from aquifer_cli.errors import EXIT_FAILED, interrupted_error

if TYPE_CHECKING:
    from aquifer.ingest.v1.collection_pb2 import Collection
    from aquifer_cli.client import Client
    from aquifer_cli.collections import Setting
    from aquifer_cli.outcome import Outcome

__all__ = ["cli"]

_COLLECTION_ID = click.argument("collection", metavar="COLLECTION")
_SETTINGS = (
    click.option("--description", default=None, help="A text for people."),
    click.option("--target-chars", type=int, default=None, help="Usual length of a chunk."),
    click.option("--max-chars", type=int, default=None, help="Maximum length of a chunk."),
    click.option(
        "--retention-days", type=float, default=None, help="Days after which documents are deleted."
    ),
    click.option(
        "--version-retention",
        type=click.IntRange(0, 100),
        default=None,
        help="Superseded versions of a document that are kept.",
    ),
    click.option(
        "--step",
        "steps",
        multiple=True,
        type=click.Choice(
            ["REPEATED_LINES", "PII_MASKING", "NEAR_DUPLICATES", "none"], case_sensitive=False
        ),
        help="A step that documents go through; may be repeated. All of them are off first.",
    ),
    click.option(
        "--label",
        "labels",
        multiple=True,
        help="Who may see documents without labels of their own: keys with this label; repeatable.",
    ),
    click.option("--no-labels", is_flag=True, help="Every key of the tenant sees those documents."),
)


def _read_labels(labels: Sequence[str], *, no_labels: bool) -> Sequence[str] | None:
    """The new labels; None: no option names any."""
    if labels and no_labels:
        raise click.UsageError("give --label or --no-labels, not both")
    return labels if labels or no_labels else None


def _add_settings(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_SETTINGS):
        function = option(function)
    return function


@command(
    cli,
    "sync",
    examples="""\
  aquifer sync docs -c handbook
  aquifer sync docs -c handbook --delete --dry-run
  aquifer sync docs -c handbook --delete --watch""",
)
@click.argument("folder", metavar="DIR|ARCHIVE", type=click.Path(path_type=Path))
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
    """Keeps a collection in step with a folder or archive.

    Uploads new and changed files and waits until they are indexed or failed; unchanged files are
    not sent. Names and skipped files are those of `aquifer upload`. It can be stopped at any time:
    the same command goes on. A file that has changed in the last 2 seconds is still being written
    and waits.

    A ZIP or TAR archive is a folder with the files in it.

    Without --delete nothing is deleted. With it, documents are that came from this folder, which is
    named in their metadata under sync.source, and whose file has been removed; none if the folder
    has no files at all, or if a folder inside cannot be read.
    """
    from aquifer_cli import show
    from aquifer_cli import sync as syncing
    from aquifer_cli.archives import open_folder
    from aquifer_cli.folder import check_source
    from aquifer_cli.sending import exit_code
    from aquifer_cli.sources import display_path

    if watch and dry_run:
        raise click.UsageError("--dry-run shows one look at the folder; leave out --watch")
    if watch and folder.is_file():
        raise click.UsageError("--watch is for folders; an archive is read once")
    names.check_collection(collection)
    source = check_source(source or f"{socket.gethostname()}:{display_path(folder.resolve())}")

    def show_all(outcomes: "Sequence[Outcome]") -> None:
        show.show_changes(run.screen, outcomes)
        if not delete and any(one.change == "KEPT" for one in outcomes):
            run.screen.note("kept: the file has been removed; --delete deletes the document")

    async def work(client: "Client", opened: Path) -> int:
        order = syncing.Order(folder=opened, collection=collection, source=source, delete=delete)
        if watch:
            run.screen.note(f"watching {display_path(folder)} until Ctrl-C")
            await syncing.watch(client, run.screen, order, show_all)
        outcomes = await syncing.run(client, run.screen, order, dry_run=dry_run)
        show_all(outcomes)
        return exit_code(outcomes)

    try:
        with open_folder(folder) as opened:
            return run.with_client(partial(work, opened=opened))
    except KeyboardInterrupt as error:
        raise interrupted_error("stopped by Ctrl-C", hint="the same command goes on") from error


@cli.group(cls=Commands)
def collections() -> None:
    """Lists, creates, changes and deletes collections.

    A collection need not be created: it also exists while it has documents.
    """


@command(collections, "list", examples="  aquifer collections list --json | jq .states")
def list_collections(run: Run) -> int:
    """Lists the collections with the number of their documents, also by state."""
    from aquifer_cli import collections as listing
    from aquifer_cli import show

    async def work(client: "Client") -> int:
        found = [one async for one in listing.list_collections(client)]
        for one in found if run.screen.machine else ():
            run.screen.record(listing.as_json(one))
        show.show_collections(run.screen, found)
        return 0

    return run.with_client(work)


@command(collections, "show", examples="  aquifer collections show handbook")
@_COLLECTION_ID
def show_collection(run: Run, collection: str) -> int:
    """Shows the settings of a collection and how many documents are in which state."""
    from aquifer_cli import collections as listing

    return _show(run, run.with_client(lambda client: listing.get(client, collection)))


@command(
    collections,
    "create",
    examples="""\
  aquifer collections create handbook --description "Manuals of all pumps"
  aquifer collections create notes --target-chars 400 --max-chars 500 --retention-days 90
  aquifer collections create letters --step PII_MASKING --step REPEATED_LINES
  aquifer collections create payroll --label hr""",
)
@_COLLECTION_ID
@_add_settings
def create_collection(
    run: Run,
    collection: str,
    steps: Sequence[str],
    labels: Sequence[str],
    *,
    no_labels: bool,
    **settings: "Setting",
) -> int:
    """Creates a collection with settings, before or after its first documents."""
    from aquifer_cli import collections as listing

    _read_labels(labels, no_labels=no_labels)
    given = listing.read_settings(collection, settings, steps, labels)
    return _show(run, run.with_client(lambda client: listing.create(client, given)))


@command(
    collections,
    "update",
    examples="""\
  aquifer collections update handbook --retention-days 0
  aquifer collections update handbook --version-retention 5
  aquifer collections update notes --target-chars 800 --max-chars 1000
  aquifer collections update letters --step none""",
)
@_COLLECTION_ID
@_add_settings
def update_collection(
    run: Run,
    collection: str,
    steps: Sequence[str],
    labels: Sequence[str],
    *,
    no_labels: bool,
    **settings: "Setting",
) -> int:
    """Changes settings of a collection; 0 sets a number back to the service's own.

    The given steps and labels take the place of those before. Labels hold at once, for all
    documents without labels of their own; steps and lengths of chunks hold for documents uploaded
    from now on. Versions beyond a lower --version-retention are removed within an hour.
    """
    from aquifer_cli import collections as listing

    changed = _read_labels(labels, no_labels=no_labels)
    paths = listing.name_changes(settings, steps, changed)
    if not paths:
        raise click.UsageError("give at least one setting")
    given = listing.read_settings(collection, settings, steps, labels)
    return _show(run, run.with_client(lambda client: listing.update(client, given, paths)))


@command(
    collections,
    "delete",
    examples="""\
  aquifer collections delete drafts
  aquifer collections delete drafts --documents --yes""",
)
@_COLLECTION_ID
@click.option("--documents", is_flag=True, help="Delete all its documents with it.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before.")
def delete_collection(run: Run, collection: str, *, documents: bool, yes: bool) -> int:
    """Deletes a collection and its settings.

    With --documents all its documents are hidden from searches and then removed from every store;
    the receipt says how much was removed from which. Documents uploaded meanwhile stay. It can be
    stopped at any time: the service goes on, and the same command shows the rest.
    """
    from aquifer_cli import collections as listing
    from aquifer_cli import show

    names.check_collection(collection)
    asks = documents and not yes and run.screen.animated and sys.stdin.isatty()
    question = f"delete the collection {collection} and all its documents?"
    if asks and not click.confirm(question, err=True):
        run.screen.note("nothing was changed")
        return EXIT_FAILED
    if not documents:
        run.with_client(lambda client: listing.delete(client, collection))
        if run.screen.machine:
            run.screen.record({"collection": collection, "documents_deleted": 0})
        run.screen.say(f"{collection}: deleted")
        return 0
    deletion = run.with_client(
        lambda client: listing.delete_with_documents(client, run.screen, collection)
    )
    if run.screen.machine:
        run.screen.record(listing.deletion_as_json(deletion))
    show.show_deletion(run.screen, deletion)
    return 0


def _show(run: Run, collection: "Collection") -> int:
    from aquifer_cli import collections as listing
    from aquifer_cli import show

    if run.screen.machine:
        run.screen.record(listing.as_json(collection))
    show.show_collection(run.screen, collection)
    return 0
