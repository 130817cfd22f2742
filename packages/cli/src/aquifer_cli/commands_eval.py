"""The commands that measure a running stack. They follow the commands for models.

Like all commands they import what they need when they run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aquifer_cli import names
from aquifer_cli.command import Commands, Run, command
from aquifer_cli.commands_models import cli

if TYPE_CHECKING:
    from aquifer_cli.evaluation.measuring import Options

__all__ = ["cli"]

_FILE = click.Path(path_type=Path)


@cli.group("eval", cls=Commands)
def evaluate() -> None:
    """Measures search and answers with questions of your own.

    The documents of a file are brought into a collection of their own, and the questions are asked
    as anybody would. Each figure has a 95 % interval, by bootstrap over the questions. This needs
    the libraries of `aquifer-cli[eval]`.
    """


def _add_outputs(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--plot", type=_FILE, help="PNG to draw the figures into."),
        click.option("--out", type=_FILE, help="File for the run, to compare others with."),
        click.option("--against", type=_FILE, help="Run of --out to compare this one with."),
        click.option(
            "--collection",
            "-c",
            default="",
            help="Collection of the documents; default: eval- and the name of their folder.",
        ),
    ):
        function = option(function)
    return function


@command(
    evaluate,
    "retrieval",
    examples="""\
  aquifer eval retrieval --corpus corpus.jsonl --queries queries.jsonl --qrels qrels.tsv \\
      --out before.json
  aquifer eval retrieval --corpus corpus.jsonl --queries queries.jsonl --qrels qrels.tsv \\
      --against before.json --plot changes.png""",
)
@click.option(
    "--corpus", type=_FILE, help="JSONL file: _id, title, text; default: what the collection has."
)
@click.option("--queries", type=_FILE, required=True, help="JSONL file: _id, text.")
@click.option(
    "--qrels", type=_FILE, required=True, help="TSV file with header: query-id, corpus-id, score."
)
@_add_outputs
def retrieval(
    run: Run,
    corpus: Path | None,
    queries: Path,
    qrels: Path,
    collection: str,
    **outputs: Path | None,
) -> int:
    """Measures how well searches find the relevant documents.

    The files have the layout of BEIR. Documents that the collection has already are not sent again.
    Each question is searched with up to 100 documents; the figures are nDCG@10, Recall@10,
    Recall@100 and MRR@10, by the library ir-measures.
    """
    options = _check(corpus, collection, outputs)
    from aquifer_cli.evaluation.measuring import measure_retrieval

    return measure_retrieval(run, options, queries, qrels)


@command(
    evaluate,
    "answers",
    examples="""\
  aquifer eval answers --questions questions.jsonl --passages passages.jsonl --limit 200
  aquifer eval answers --questions questions.jsonl --passages passages.jsonl --model chat \\
      --against extractive.json""",
)
@click.option(
    "--questions", type=_FILE, required=True, help="JSONL file: _id, question, answers, answerable."
)
@click.option(
    "--passages", type=_FILE, help="JSONL file: _id, title, text; default: what the collection has."
)
@click.option("--model", default="", help="Model of `aquifer models`, or an alias.")
@click.option(
    "--limit",
    default=0,
    type=click.IntRange(0),
    help="Ask so many of the questions, drawn at random; default: all.",
)
@click.option("--seed", default=7, show_default=True, help="Other questions for another seed.")
@_add_outputs
def answers(
    run: Run,
    questions: Path,
    passages: Path | None,
    model: str,
    limit: int,
    seed: int,
    *,
    collection: str,
    **outputs: Path | None,
) -> int:
    """Measures how well answers cite what answers the question.

    `answers` of a question are accepted texts, none if the documents do not answer it. The figures
    tell how often one of them is in the passages, or in the quotes, of the first five citations;
    whether citations are valid; how often there is no answer; and how well the confidence tells
    answerable questions from others.
    """
    options = _check(passages, collection, outputs)
    from aquifer_cli.evaluation.measuring import measure_answers

    return measure_answers(run, options, questions, model=model, limit=limit, seed=seed)


@command(
    evaluate,
    "feedback",
    examples="""\
  aquifer eval feedback -c handbook --queries good.jsonl --qrels good.tsv
  aquifer eval retrieval -c handbook --queries good.jsonl --qrels good.tsv --out before.json""",
)
@click.option("--collection", "-c", required=True, help="Collection of the cited documents.")
@click.option("--queries", type=_FILE, help="JSONL file to write: _id, text.")
@click.option("--qrels", type=_FILE, help="TSV file to write: query-id, corpus-id, score.")
@click.option("--questions", type=_FILE, help="JSONL file to write: _id, question, answers.")
@click.option("--from", "start", default="", help="Only answers from this time on; UTC.")
@click.option("--to", "end", default="", help="Only answers before this time; UTC.")
@click.option(
    "--all", "all_principals", is_flag=True, help="Those of every key; needs the scope operate."
)
def feedback(
    run: Run,
    collection: str,
    queries: Path | None,
    qrels: Path | None,
    questions: Path | None,
    start: str,
    end: str,
    *,
    all_principals: bool,
) -> int:
    """Writes good answers as questions and judgments, to measure with.

    Each question of an answer that was rated good is a query, and the documents of the collection
    that the answer cites are relevant; with --questions its quotes are accepted answers. Left out
    are later questions of a conversation, which may not stand alone, and answers whose documents
    are gone.
    """
    from aquifer.query.v1.query_service_pb2 import RATING_GOOD
    from aquifer_cli import exporting
    from aquifer_cli.evaluation.feedback import Ratings
    from aquifer_cli.outputs import check_folder

    names.check_collection(collection)
    if (queries is None) != (qrels is None) or not (queries or questions):
        raise click.UsageError("give --queries with --qrels, or --questions, or all of them")
    for file in (queries, qrels, questions):
        if file is not None:
            check_folder(file)
    request = exporting.make_request(start, end, all_principals=all_principals, rating=RATING_GOOD)
    ratings = Ratings(collection)
    run.with_client(
        lambda client: ratings.read(exporting.stream_answers(client, request, run.screen.note))
    )
    if queries and qrels:
        ratings.write_queries(queries)
        ratings.write_judgments(qrels)
    if questions:
        ratings.write_questions(questions)
    count = len(ratings.questions)
    if run.screen.machine:
        run.screen.record({"questions": count, "left_out": ratings.left_out})
    run.screen.say(f"{count:,} questions; {ratings.left_out:,} good answers left out")
    return 0


def _check(corpus: Path | None, collection: str, outputs: dict[str, Path | None]) -> "Options":
    """Checks what can be checked before anything is read or sent.

    Raises:
        CommandError: EXTRA_MISSING, COLLECTION_NAME, FILE_UNWRITABLE.
    """
    from aquifer_cli.evaluation.extra import require_libraries
    from aquifer_cli.outputs import check_folder

    require_libraries()
    from aquifer_cli.evaluation.measuring import Options

    for file in (outputs["out"], outputs["plot"]):
        if file is not None:
            check_folder(file)
    if corpus is None and not collection:
        raise click.UsageError("without a file of documents, name a --collection that has some")
    if not collection and corpus is not None:
        collection = names.id_from_foreign(f"eval-{corpus.resolve().parent.name}")
    return Options(corpus=corpus, collection=names.check_collection(collection), **outputs)
