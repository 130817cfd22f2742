"""The commands: each parses its arguments, calls one function and shows the result.

Commands import what they need when they run, so that `--help` is fast.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aquifer_cli import names
from aquifer_cli.command import Run, command
from aquifer_cli.commands_start import cli

if TYPE_CHECKING:
    from aquifer_cli.client import Client

__all__ = ["COLLECTION", "PASSWORD_FILE", "cli"]

# As `aquifer_cli.documents` reads them from the contract; a test compares.
STATES = ("ACCEPTED", "PREPARED", "INDEXED", "FAILED", "SUPERSEDED", "DELETING", "DELETED")
_FILE = click.Path(path_type=Path)
COLLECTION = click.option(
    "--collection", "-c", default=names.COLLECTION_DEFAULT, show_default=True, help="Collection id."
)
PASSWORD_FILE = click.option(
    "--password-file",
    type=_FILE,
    help="File whose first line opens documents that need a password; - reads standard input.",
)
COLLECTION_ANY = click.option("--collection", "-c", default="", help="Only this collection.")
COLLECTIONS_ANY = click.option(
    "--collection", "-c", "collections", multiple=True, help="Only these collections; repeatable."
)
FOUND_WHERE = click.option(
    "--filter", "where", default="", help="Only documents for which this is true."
)
FOUND_AS_OF = click.option(
    "--as-of",
    default="",
    metavar="TIME",
    help="Search the versions that were live then, such as 2026-01-31T12:00:00Z.",
)
_METADATA = click.option(
    "--metadata",
    "pairs",
    multiple=True,
    metavar="KEY=TEXT|KEY:=JSON",
    help="A pair of metadata; can be repeated.",
)
_LABELS = click.option(
    "--label", "labels", multiple=True, help="Who may see it: keys with this label; repeatable."
)
_WAIT = click.option("--wait", is_flag=True, help="Wait until every document is indexed or failed.")


@command(
    cli,
    "upload",
    examples="""\
  aquifer upload report.pdf notes.md
  aquifer upload docs --wait -c handbook --metadata year:=2020 --metadata author=Ada
  aquifer upload manuals.zip          each file in it is a document
  aquifer upload contract.pdf --password-file secret.txt
  aquifer upload docs --json | jq -r 'select(.reason != "")'""",
)
@click.argument("paths", nargs=-1, required=True, type=_FILE)
@COLLECTION
@_METADATA
@_LABELS
@_WAIT
@PASSWORD_FILE
@click.option("--unpack/--no-unpack", default=True, help="Send the files in archives; the default.")
def upload(
    run: Run,
    paths: tuple[Path, ...],
    collection: str,
    pairs: tuple[str, ...],
    labels: tuple[str, ...],
    password_file: Path | None,
    *,
    wait: bool,
    unpack: bool,
) -> int:
    """Uploads files, and the contents of folders and archives.

    The name of a document is the path inside the given folder, with ~ between folders. The same
    path again is a new version; the same bytes again only replace its title and metadata. Without
    --label a document keeps its labels, and a new one has those of its collection.
    Hidden files and links to folders below a given folder are skipped. A ZIP or TAR archive stands
    for a folder of its name; files that are no longer in it stay documents. Files above 8 MiB are
    sent in parts: after a broken connection, and when the command is run again, they continue
    where they stopped.
    """
    from tempfile import TemporaryDirectory

    from aquifer_cli import upload as uploading
    from aquifer_cli.metadata import read_pairs
    from aquifer_cli.passwords import read_password
    from aquifer_cli.sending import send

    password = read_password(password_file) if password_file else ""
    with TemporaryDirectory(prefix="aquifer-upload-") as folder:
        space = Path(folder) if unpack else None
        items = uploading.find_files(
            paths, collection, read_pairs(pairs), labels=labels, password=password, space=space
        )
        return send(run, items, wait=wait)


@command(
    cli,
    "import",
    examples="""\
  aquifer import corpus.jsonl -c papers --label hr --wait
  {"_id": "1", "title": "Wells", "text": "A well is ...", "metadata": {"year": 1987}}""",
)
@click.argument("file", type=_FILE)
@COLLECTION
@_LABELS
@_WAIT
def import_(run: Run, file: Path, collection: str, labels: tuple[str, ...], *, wait: bool) -> int:
    """Uploads a JSONL file: each line is a document.

    A line is an object with _id, text and optionally title and metadata (an object). If a line
    cannot be read, nothing is sent. If lines have the same _id, the last one is used. Without
    --label a document keeps its labels, and a new one has those of its collection.
    """
    from aquifer_cli import upload as uploading
    from aquifer_cli.sending import send

    return send(run, uploading.read_documents(file, collection, labels), wait=wait)


@command(
    cli,
    "documents",
    examples="""\
  aquifer documents --state FAILED
  aquifer documents --filter 'title:"water" AND notes:PAGES_WITHOUT_TEXT'
  aquifer documents --filter 'metadata.year >= 2020 AND metadata.tags:draft'
  aquifer documents -c papers --json | jq -r .document""",
)
@COLLECTION_ANY
@click.option("--state", default="", help=f"Only this state: {', '.join(STATES)}.")
@click.option("--filter", "where", default="", help="Only documents for which this is true.")
def documents(run: Run, collection: str, state: str, where: str) -> int:
    """Lists documents with the state of their newest version.

    A filter compares state and reason (= !=), title, media_type and file_name (= != and `:` for
    "contains"), size_bytes, create_time and update_time (= != < <= > >=), notes (`:` for "has this
    code"), and metadata.KEY or metadata."any key" with a text, number, boolean or time (`:` also
    for "has in its list"), joined by AND, OR, NOT and parentheses.
    """
    from aquifer_cli import documents as listing
    from aquifer_cli import show

    if collection:
        names.check_collection(collection)

    async def work(client: "Client") -> int:
        found = []
        async for document in listing.list_documents(client, collection, state.upper(), where):
            if run.screen.machine:
                run.screen.record(listing.as_json(document))
            else:
                found.append(document)
        show.show_documents(run.screen, found, chosen=bool(state or where))
        return 0

    return run.with_client(work)


@command(
    cli,
    "update",
    examples="""\
  aquifer update report.pdf --title "Annual report" --metadata author=Ada
  aquifer update report.pdf --metadata year:=2020 --metadata 'tags:=["a", "b"]' --unset draft""",
)
@click.argument("document")
@COLLECTION
@click.option("--title", help='New title; "" for the title of the text.')
@_METADATA
@click.option("--unset", multiple=True, metavar="KEY", help="Removes a pair; can be repeated.")
@_LABELS
@click.option("--no-labels", is_flag=True, help="Back to the labels of its collection, if any.")
def update(
    run: Run,
    document: str,
    collection: str,
    title: str | None,
    pairs: tuple[str, ...],
    unset: tuple[str, ...],
    labels: tuple[str, ...],
    *,
    no_labels: bool,
) -> int:
    """Changes the title, metadata and labels of a document.

    Other pairs stay. A value after = is a text, one after := is JSON: a number, true, false, or a
    list. DOCUMENT is its path at upload or its id, both in the collection, or its complete name.
    """
    from aquifer_cli import documents as listing
    from aquifer_cli import show
    from aquifer_cli.metadata import read_pairs

    names.check_collection(collection)
    metadata = read_pairs(pairs)
    if labels and no_labels:
        raise click.UsageError("give --label or --no-labels, not both")
    if title is None and not (metadata or unset or labels or no_labels):
        raise click.UsageError("give --title, --metadata, --unset, --label or --no-labels")
    if both := sorted(set(metadata) & set(unset)):
        raise click.UsageError(f"--metadata and --unset both name {', '.join(both)}")
    changed = run.with_client(
        lambda client: listing.update(
            client,
            document,
            collection,
            title=title,
            metadata=metadata,
            unset=unset,
            labels=labels if labels or no_labels else None,
        )
    )
    if run.screen.machine:
        run.screen.record(listing.as_json(changed))
    show.show_description(run.screen, changed)
    return 0


@command(
    cli,
    "delete",
    examples="""\
  aquifer delete report.pdf
  aquifer delete "minutes of may.txt" -c papers
  aquifer delete collections/papers/documents/471""",
)
@click.argument("document")
@COLLECTION
def delete(run: Run, document: str, collection: str) -> int:
    """Deletes a document with all its versions.

    When the command returns, no search finds the document; its data is removed right after.
    DOCUMENT is its path at upload or its id, both in the collection, or its complete name.
    """
    from aquifer_cli import documents as listing

    names.check_collection(collection)
    deleted = run.with_client(lambda client: listing.delete(client, document, collection))
    if run.screen.machine:
        run.screen.record(listing.as_json(deleted))
    state = listing.state_name(deleted.state)
    outcome = "no search finds it; its data is being removed" if state == "DELETING" else "removed"
    run.screen.say(f"{deleted.name}: {state}, {outcome}")
    return 0
