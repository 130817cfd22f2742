"""`aquifer search` and `aquifer ask`: they parse their arguments, ask, and show what comes."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click
from typing_extensions import Unpack

from aquifer_cli import names
from aquifer_cli.command import Run, command
from aquifer_cli.commands import COLLECTIONS_ANY, FOUND_AS_OF, FOUND_WHERE, cli

if TYPE_CHECKING:
    from aquifer.query.v1.query_service_pb2 import SearchRequest, SearchResponse
    from aquifer_cli.client import Client

__all__ = ["cli"]

_FILE = click.Path(path_type=Path)


class SearchOptions(TypedDict):
    """The options of `aquifer search`."""

    collections: tuple[str, ...]
    where: str
    as_of: str
    limit: int
    rerank: str | None
    wordings: tuple[str, ...]
    diversity: float
    neighbours: int
    explain: bool
    queries: Path | None
    run_file: Path | None


@command(
    cli,
    "search",
    examples="""\
  aquifer search "how deep is the well" -k 3
  aquifer search "water level" --filter 'metadata.year >= 2020 AND metadata.tags:survey'
  aquifer search "water level" --as-of 2026-01-31
  aquifer search --queries queries.jsonl --run run.txt --limit 100 -c papers -c notes""",
)
@click.argument("question", required=False)
@COLLECTIONS_ANY
@FOUND_WHERE
@FOUND_AS_OF
@click.option(
    "--limit",
    "-k",
    default=10,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Maximum number of hits; with --queries, of documents per query.",
)
@click.option(
    "--rerank",
    is_flag=False,
    flag_value="",
    metavar="[MODEL]",
    help="A model orders the best hits again: this one of `aquifer models`, or the default one.",
)
@click.option(
    "--wording",
    "wordings",
    multiple=True,
    help="The question in other words; what several wordings find comes first. At most 4.",
)
@click.option(
    "--diversity",
    default=0.0,
    type=click.FloatRange(0, 1),
    help="How much the hits differ from each other; 0.3 leaves out most that say nothing new.",
)
@click.option(
    "--neighbours",
    default=0,
    type=click.IntRange(0, 3),
    help="Passages of the same document to show before and after each hit.",
)
@click.option("--explain", is_flag=True, help="Also show how the order came about.")
@click.option("--queries", type=_FILE, help="JSONL file of queries: _id, text.")
@click.option("--run", "run_file", type=_FILE, help="File for the TREC run of document ids.")
def search(run: Run, question: str | None, **options: Unpack[SearchOptions]) -> int:
    """Searches passages for a question, or writes a TREC run.

    With --queries and --run: writes the ids of the documents found for each query, best first.

    A filter compares metadata.KEY or metadata."any key" (= !=, numbers and times also < <= > >=,
    `:` for "has in its list", `:*` for "has a value"), title (= != :*), document and collection
    (= !=), version and create_time (= != < <= > >=) and labels (: :*), joined by AND, OR, NOT and
    parentheses.
    """
    from aquifer_cli import found
    from aquifer_cli.collections import refuse_unknown

    collections = names.check_collections(options["collections"])
    queries, run_file = options["queries"], options["run_file"]
    if queries is not None and _is_of_one_question(options):
        raise click.UsageError(
            "--as-of, --rerank, --wording, --diversity, --neighbours and --explain are for a single"
            " QUESTION"
        )
    if queries is not None and run_file is not None and question is None:
        return _search_run(run, queries, run_file, collections, options["limit"], options["where"])
    if question is None or queries is not None or run_file is not None:
        raise click.UsageError("give a QUESTION, or --queries FILE with --run OUT")
    request = _to_request(question, collections, options)

    async def work(client: "Client") -> "SearchResponse":
        response: SearchResponse = await client.call(client.query.Search, request)
        if not response.hits:
            await refuse_unknown(client, collections)
        return response

    found.show_response(run.screen, run.with_client(work))
    return 0


def _is_of_one_question(options: SearchOptions) -> bool:
    """Whether there is an option that a run of many questions does not take."""
    named = (
        options["as_of"],
        options["wordings"],
        options["diversity"],
        options["neighbours"],
        options["explain"],
    )
    return options["rerank"] is not None or any(named)


def _to_request(
    question: str, collections: Sequence[str], options: SearchOptions
) -> "SearchRequest":
    from aquifer.query.v1.query_service_pb2 import SearchRequest
    from aquifer_cli.times import parse_time

    request = SearchRequest(
        question=question,
        collections=collections,
        limit=options["limit"],
        filter=options["where"],
        rerank=options["rerank"] is not None,
        reranker=options["rerank"] or "",
        wordings=options["wordings"],
        diversity=options["diversity"],
        neighbours=options["neighbours"],
        explain=options["explain"],
    )
    if options["as_of"]:
        request.as_of.FromDatetime(parse_time(options["as_of"]))
    return request


def _search_run(
    run: Run, queries: Path, run_file: Path, collections: Sequence[str], limit: int, where: str
) -> int:
    from aquifer_cli import ask as asking
    from aquifer_cli.collections import refuse_unknown
    from aquifer_cli.outputs import check_folder, write_file

    pairs = asking.read_queries(queries)
    check_folder(run_file)
    out = StringIO()
    with run.screen.show_progress(answered=len(pairs)) as bars:

        async def work(client: "Client") -> None:
            await refuse_unknown(client, collections)
            advance = bars["answered"].advance
            await asking.write_run(
                client, pairs, out, collections=collections, limit=limit, done=advance, where=where
            )

        run.with_client(work)
    write_file(run_file, out.getvalue().encode())
    if run.screen.machine:
        run.screen.record({"queries": len(pairs), "run": str(run_file)})
    run.screen.say(f"{len(pairs):,} queries, run in {run_file}")
    return 0


@command(
    cli,
    "ask",
    examples="""\
  aquifer ask "How deep is the well?" -c handbook -c surveys
  aquifer ask "How deep is the well?" --filter 'metadata.year >= 2020'
  aquifer ask "How deep is the well?" --model extractive""",
)
@click.argument("question")
@COLLECTIONS_ANY
@FOUND_WHERE
@FOUND_AS_OF
@click.option("--model", default="", help="Model of `aquifer models`, or an alias.")
@click.option("--prompt", default="", help="Prompt of `aquifer prompts`, as ID or ID@VERSION.")
def ask(
    run: Run,
    question: str,
    collections: tuple[str, ...],
    where: str,
    as_of: str,
    model: str,
    prompt: str,
) -> int:
    """Answers a question from the documents, with citations.

    A filter is written as that of `aquifer search`.
    """
    from aquifer.query.v1.query_service_pb2 import AskRequest
    from aquifer_cli.answer import show_answer
    from aquifer_cli.collections import refuse_unknown
    from aquifer_cli.prompts import make_reference
    from aquifer_cli.times import parse_time

    chosen = names.check_collections(collections)
    request = AskRequest(
        question=question,
        collections=chosen,
        model=model,
        filter=where,
        prompt=make_reference(prompt),
    )
    if as_of:
        request.as_of.FromDatetime(parse_time(as_of))

    async def work(client: "Client") -> int:
        # Before the answer: its first words cannot be taken back.
        await refuse_unknown(client, chosen)
        answer = await show_answer(client, run.screen, request)
        if client.endpoints.traces:
            run.screen.note(f"trace of this answer: `aquifer trace {answer.answer_id}`")
        return 0

    return run.with_client(work)
