"""The commands that show what became of documents: text, traces and states.

Like all commands they import what they need when they run.
"""

import re
from typing import TYPE_CHECKING

import click

from aquifer_cli import endpoints, names
from aquifer_cli.command import Run, command
from aquifer_cli.commands import COLLECTION
from aquifer_cli.commands_search import cli
from aquifer_cli.errors import EXIT_FAILED

if TYPE_CHECKING:
    from aquifer_cli.client import Client

__all__ = ["cli"]


def _parse_pages(_context: click.Context, _option: click.Parameter, given: str) -> tuple[int, int]:
    """First and last page of `3` or `3-7`; zeros if nothing is given."""
    found = re.fullmatch(r"([1-9]\d{0,8})(?:-([1-9]\d{0,8}))?", given or "")
    if given and not found:
        raise click.BadParameter("give a page, as in 3, or pages, as in 3-7")
    return (int(found[1]), int(found[2] or found[1])) if found else (0, 0)


def _parse_range(_context: click.Context, _option: click.Parameter, given: str) -> tuple[int, int]:
    """Start and end of `100:200`, `100:` or `:200`; 0 for what is left out."""
    found = re.fullmatch(r"(\d{0,9}):(\d{0,9})", given or "")
    start, end = (int(found[1] or 0), int(found[2] or 0)) if found else (0, 0)
    if given and (not found or (found[2] and end <= start)):
        raise click.BadParameter("give characters from 0, the first one first, as in 100:200")
    return start, end


@command(
    cli,
    "text",
    examples="""\
  aquifer text report.pdf --page 3-7 | less
  aquifer text notes.md > notes.txt
  aquifer text "minutes of may.txt" -c papers --range 100:200""",
)
@click.argument("document")
@COLLECTION
@click.option("--page", "pages", metavar="N[-M]", callback=_parse_pages, help="Only these pages.")
@click.option(
    "--range",
    "characters",
    metavar="START:END",
    callback=_parse_range,
    help="Only these characters, as in the offsets of hits and citations.",
)
@click.option(
    "--version",
    default=0,
    type=click.IntRange(0, 2**63 - 1),
    help="Version to read; default: the one that searches find.",
)
def text(
    run: Run,
    document: str,
    collection: str,
    pages: tuple[int, int],
    characters: tuple[int, int],
    version: int,
) -> int:
    """Prints the text of a document as it was read.

    DOCUMENT is its path at upload or its id, both in the collection, or its complete name. The
    output is UTF-8, without an added line end unless it is a terminal; with --json one object for
    each part of up to 262,144 characters.
    """
    from aquifer_cli import text as reading

    names.check_collection(collection)
    if any(pages) and any(characters):
        raise click.UsageError("give --page or --range, not both")
    request = reading.make_request(document, collection, pages, characters, version)

    async def work(client: "Client") -> None:
        async for part in reading.read(client, request):
            if run.screen.machine:
                run.screen.record(reading.as_json(part))
            else:
                run.screen.write(part.text)

    run.with_client(work)
    if run.screen.width is not None:
        run.screen.say()
    return 0


@command(
    cli,
    "trace",
    examples="""\
  aquifer trace report.pdf
  aquifer trace "minutes of may.txt" -c papers
  aquifer trace 391962eb1d67644cadeedad1e5538aac""",
)
@click.argument("identifier", metavar="ID")
@COLLECTION
def trace(run: Run, identifier: str, collection: str) -> int:
    """Shows the spans of a trace, of a document or of an answer.

    ID is the id of a trace or an answer, or a document: its path at upload or its id, both in the
    collection, or its complete name. If a document has several traces, the newest comes first.
    """
    from aquifer_cli import trace as tracing
    from aquifer_cli.waterfall import draw_waterfall

    names.check_collection(collection)
    traces = tracing.find(endpoints.find(run.data_dir).traces, identifier, collection)
    for number, nodes in enumerate(traces):
        if run.screen.machine:
            run.screen.record(tracing.as_json(nodes))
            continue
        if number:
            run.screen.say()
        for line in draw_waterfall(nodes, run.screen.width):
            run.screen.say(line)
    return 0


@command(
    cli,
    "status",
    examples="""\
  aquifer status
  aquifer status "minutes of may.txt" -c papers""",
)
@click.argument("document", required=False)
@COLLECTION
def status(run: Run, document: str | None, collection: str) -> int:
    """Shows the state of all parts, or of a document.

    Without DOCUMENT: the parts, their versions and the backlog. DOCUMENT is its path at upload or
    its id, both in the collection, or its complete name; notes tell what had to be guessed or
    repaired to read it. Exit code 1 when a part is not ready, or the document has failed.
    """
    from aquifer_cli import status as reporting

    if document is not None:
        return _show_document(run, document, collection)
    state = run.with_client(reporting.gather)
    if run.screen.machine:
        run.screen.record(state)
    else:
        reporting.show(run.screen, state)
    parts = (*state["parts"], *state["servers"])
    return EXIT_FAILED if any(part["ready"] is False for part in parts) else 0


def _show_document(run: Run, document: str, collection: str) -> int:
    from aquifer_cli import documents, show

    names.check_collection(collection)
    found = run.with_client(lambda client: documents.get(client, document, collection))
    if run.screen.machine:
        run.screen.record(documents.as_json(found))
    else:
        show.show_document(run.screen, found)
    return EXIT_FAILED if found.reason else 0
