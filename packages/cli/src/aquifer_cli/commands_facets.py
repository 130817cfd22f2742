"""The command that counts documents. It follows those that show what became of documents.

Like all commands it imports what it needs when it runs.
"""

from typing import TYPE_CHECKING

import click

from aquifer_cli import names
from aquifer_cli.command import Run, command
from aquifer_cli.commands import COLLECTIONS_ANY, FOUND_WHERE
from aquifer_cli.commands_state import cli

if TYPE_CHECKING:
    from aquifer_cli.client import Client

__all__ = ["cli"]


@command(
    cli,
    "facets",
    examples="""\
  aquifer facets metadata.year metadata.tags
  aquifer facets collection labels --filter 'metadata.year >= 2020' --limit 100""",
)
@click.argument("fields", nargs=-1, required=True, metavar="FIELD...")
@COLLECTIONS_ANY
@FOUND_WHERE
@click.option(
    "--limit",
    "-k",
    default=10,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Maximum number of values of each field.",
)
def facets(
    run: Run,
    fields: tuple[str, ...],
    collections: tuple[str, ...],
    where: str,
    limit: int,
) -> int:
    """Counts documents by the values of a field.

    It counts those that searches find. A FIELD is collection, labels, metadata.KEY or metadata."any
    key". A document with a list counts for each of its values. A filter is written as that of
    `aquifer search`.
    """
    from aquifer_cli import facets as counting

    chosen = names.check_collections(collections)

    async def work(client: "Client") -> int:
        counted = await counting.count(client, fields, collections=chosen, where=where, limit=limit)
        if run.screen.machine:
            for facet in counted.facets:
                run.screen.record(counting.as_json(facet))
        else:
            counting.show(run.screen, counted)
        return 0

    return run.with_client(work)
