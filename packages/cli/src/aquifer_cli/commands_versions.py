"""The commands for versions of a document. They follow the one that counts them.

Like all commands they import what they need when they run.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aquifer_cli import names
from aquifer_cli.command import Run, command
from aquifer_cli.commands import COLLECTION, PASSWORD_FILE
from aquifer_cli.commands_prompts import cli

if TYPE_CHECKING:
    from aquifer.ingest.v1.document_pb2 import Document
    from aquifer_cli.client import Client

__all__ = ["cli"]

_DOCUMENT = click.argument("document")
_VERSION = click.argument("version", type=click.IntRange(1, 2**63 - 1))


@command(
    cli,
    "versions",
    examples="""\
  aquifer versions report.pdf
  aquifer versions report.pdf -c papers --json | jq 'select(.bytes_kept) | .version'""",
)
@_DOCUMENT
@COLLECTION
def versions(run: Run, document: str, collection: str) -> int:
    """Lists the versions of a document, the newest first.

    `live` is the one that searches find, `kept` an older one whose bytes are stored, so that
    `aquifer rollback` can bring it back. How many are kept is a setting of the collection:
    `aquifer collections update COLLECTION --version-retention N`.
    """
    from aquifer_cli import show
    from aquifer_cli import versions as history

    names.check_collection(collection)

    async def work(client: "Client") -> int:
        found = []
        async for version in history.list_versions(client, document, collection):
            if run.screen.machine:
                run.screen.record(history.as_json(version))
            else:
                found.append(version)
        show.show_versions(run.screen, found)
        return 0

    return run.with_client(work)


@command(
    cli,
    "rollback",
    examples="""\
  aquifer rollback report.pdf 3
  aquifer rollback contract.pdf 3 --password-file secret.txt""",
)
@_DOCUMENT
@_VERSION
@COLLECTION
@PASSWORD_FILE
def rollback(
    run: Run, document: str, version: int, collection: str, password_file: Path | None
) -> int:
    """Makes the content of an older version the newest.

    Its bytes are uploaded again, with its title and metadata, under a new version number; searches
    find the live version until the new one is indexed. `aquifer versions` shows which versions have
    their bytes. The password of a file is not kept: send it again.
    """
    from aquifer_cli import versions as history
    from aquifer_cli.passwords import read_password

    names.check_collection(collection)
    password = read_password(password_file) if password_file else ""
    changed = run.with_client(
        lambda client: history.roll_back(client, document, collection, version, password)
    )
    return _show(run, changed, f"v{changed.version} has the content of v{version}")


@command(cli, "pin", examples="  aquifer pin report.pdf 3")
@_DOCUMENT
@_VERSION
@COLLECTION
def pin(run: Run, document: str, version: int, collection: str) -> int:
    """Keeps searches at the live version of a document.

    It must be the newest one: to pin an older version, roll back to it first. Until
    `aquifer unpin`, uploads of other bytes are refused with DOCUMENT_PINNED.
    """
    from aquifer_cli import versions as history

    names.check_collection(collection)
    changed = run.with_client(lambda client: history.pin(client, document, collection, version))
    return _show(run, changed, f"pinned to v{version}; uploads of other bytes are refused")


@command(cli, "unpin", examples="  aquifer unpin report.pdf")
@_DOCUMENT
@COLLECTION
def unpin(run: Run, document: str, collection: str) -> int:
    """Takes uploads of a pinned document again."""
    from aquifer_cli import versions as history

    names.check_collection(collection)
    changed = run.with_client(lambda client: history.unpin(client, document, collection))
    return _show(run, changed, "not pinned; takes uploads")


def _show(run: Run, document: "Document", outcome: str) -> int:
    from aquifer_cli import documents

    if run.screen.machine:
        run.screen.record(documents.as_json(document))
    run.screen.say(f"{document.name}: {outcome}")
    return 0
