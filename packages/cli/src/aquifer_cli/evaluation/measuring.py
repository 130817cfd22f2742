"""`aquifer eval retrieval` and `aquifer eval answers`: from the files to the figures."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from aquifer_cli import names
from aquifer_cli.client import Client
from aquifer_cli.command import Run
from aquifer_cli.errors import EXIT_FAILED
from aquifer_cli.evaluation import answers, files, plot, report, retrieval
from aquifer_cli.evaluation.calls import SIDE_BY_SIDE
from aquifer_cli.evaluation.corpus import Documents, ingest, inspect
from aquifer_cli.evaluation.figures import Measured, compare, estimate
from aquifer_cli.evaluation.files import Question
from aquifer_cli.evaluation.intervals import Judged
from aquifer_cli.evaluation.runs import (
    OtherRun,
    RunFile,
    describe_settings,
    list_versions,
    read_run,
    tell_time,
)
from aquifer_cli.evaluation.scores import DEPTH
from aquifer_cli.outputs import write_file
from aquifer_cli.screen import Screen
from aquifer_cli.sending import repeat_progress
from aquifer_cli.sources import Item, read_documents

RETRIEVAL: Final = "retrieval"
ANSWERS: Final = "answers"

T = TypeVar("T")
Ask = Callable[[Client, Sequence[Question], Callable[[], None]], Awaitable[T]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What both commands are given: documents, collection, and files to write or compare with.

    `corpus` None: the documents that the collection has.
    """

    corpus: Path | None
    collection: str
    out: Path | None
    against: Path | None
    plot: Path | None


_NOT_IN_COLLECTION: Final = (
    "give the documents with --corpus: those that were refused, for example because they are empty,"
    " then count as not found"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Corpus:
    """Documents to send, or those that are there already; `known` are the ids of either."""

    items: Sequence[Item]
    documents: Documents | None
    known: frozenset[str]


def measure_retrieval(run: Run, options: Options, queries: Path, qrels: Path) -> int:
    """Measures searches, shows the figures, and returns the exit code.

    Raises:
        CommandError: a file cannot be read, or a reason of a service.
    """
    other = read_run(options.against, RETRIEVAL) if options.against else None
    corpus = _read_corpus(run, options)
    questions = files.read_queries(queries)
    known = corpus.known
    hint = files.QRELS_HINT if options.corpus else _NOT_IN_COLLECTION
    judged = files.read_judgments(qrels, {one.id for one in questions}, known, unknown_hint=hint)

    async def ask(
        client: Client, questions: Sequence[Question], done: Callable[[], None]
    ) -> retrieval.Rankings:
        return await retrieval.rank(client, questions, collection=options.collection, done=done)

    documents, rankings, seconds = _ask(run, options, corpus, questions, ask)
    measured = retrieval.measure(rankings.ranked, judged)
    counted = measured.means[measured.main]
    made = RunFile(
        kind=RETRIEVAL,
        time=tell_time(),
        settings=describe_settings(
            {**_name_file("corpus", options), "queries": queries, "qrels": qrels},
            collection=options.collection,
            limit=DEPTH,
            one_per_document=True,
            side_by_side=SIDE_BY_SIDE,
        ),
        versions=list_versions(),
        documents=documents,
        counts={
            "questions": len(questions),
            "without_any_hit": rankings.count_empty(),
            "without_a_relevant_document": len(rankings.ranked) - len(counted),
            "hits_of_other_documents": rankings.count_foreign(known),
        },
        seconds=seconds,
        failures=rankings.failures,
        figures=estimate(measured),
        questions={
            question: {"figures": _figures_of(question, measured), "ranking": ranking}
            for question, ranking in rankings.ranked.items()
        },
    )
    # Scored with the judgments of now, so that both runs are judged alike.
    theirs = retrieval.measure(other.rankings(), judged) if other else None
    return _finish(run.screen, options, made, measured, other, theirs)


def measure_answers(
    run: Run, options: Options, questions_file: Path, *, model: str, limit: int, seed: int
) -> int:
    """Measures answers, shows the figures, and returns the exit code.

    Raises:
        CommandError: a file cannot be read, or a reason of a service.
    """
    other = read_run(options.against, ANSWERS) if options.against else None
    corpus = _read_corpus(run, options)
    questions = files.sample(files.read_questions(questions_file), limit, seed)

    async def ask(
        client: Client, questions: Sequence[Question], done: Callable[[], None]
    ) -> answers.Answers:
        return await answers.answer(
            client, questions, collection=options.collection, model=model, done=done
        )

    documents, answered, seconds = _ask(run, options, corpus, questions, ask)
    rows = answered.answered
    judged = {
        question: Judged(answerable=one.answerable, confidence=one.confidence)
        for question, one in rows.items()
        if one.confidence is not None
    }
    measured = answers.measure({name: one.figures for name, one in rows.items()}, judged)
    made = RunFile(
        kind=ANSWERS,
        time=tell_time(),
        settings=describe_settings(
            {**_name_file("passages", options), "questions": questions_file},
            collection=options.collection,
            model=model,
            models=sorted({one.model for one in rows.values()}),
            limit=limit,
            seed=seed,
            side_by_side=SIDE_BY_SIDE,
        ),
        versions=list_versions(),
        documents=documents,
        counts={
            "questions": len(questions),
            "with_a_confidence": len(judged),
            "citations": answered.count_citations(),
            "citations_that_are_not_valid": answered.count_invalid(),
            "citations_of_other_documents": answered.count_foreign(corpus.known),
            "answers_while_the_model_was_away": sum(one.degraded for one in rows.values()),
        },
        seconds=seconds,
        failures=answered.failures,
        figures=estimate(measured),
        questions={question: asdict(one) for question, one in rows.items()},
    )
    theirs = answers.measure(other.figures(), other.judged()) if other else None
    return _finish(run.screen, options, made, measured, other, theirs)


def _ask(
    run: Run,
    options: Options,
    corpus: _Corpus,
    questions: Sequence[Question],
    ask: Ask[T],
) -> tuple[Documents, T, float]:
    """The documents and the answers, and the seconds that the latter took."""
    screen = run.screen
    asked = 0

    async def work(client: Client) -> tuple[Documents, T, float]:
        documents = corpus.documents or await ingest(
            client, screen, corpus.items, options.collection
        )
        started_s = time.monotonic()
        with screen.show_progress(asked=len(questions)) as bars:

            def done() -> None:
                nonlocal asked
                asked += 1
                bars["asked"].advance()

            def describe() -> str:
                return f"{asked:,} of {len(questions):,} questions are asked"

            async with repeat_progress(screen, describe):
                answered = await ask(client, questions, done)
        return documents, answered, time.monotonic() - started_s

    return run.with_client(work)


def _finish(
    screen: Screen,
    options: Options,
    made: RunFile,
    measured: Measured,
    other: OtherRun | None,
    theirs: Measured | None,
) -> int:
    """Writes and shows a run; the exit code tells whether all questions have a result."""
    if options.out:
        write_file(options.out, made.encode())
    differences = compare(measured, theirs) if theirs else {}
    if screen.machine:
        screen.record(report.as_json(made, other, differences, measured.main))
    else:
        report.show_run(screen, made)
        if other is not None:
            report.show_comparison(screen, made, other, differences, measured.main)
        took = f"{made.documents.seconds:.1f} s for the documents, {made.seconds:.1f} s for the"
        screen.note(f"{took} questions")
    if options.plot:
        write_file(options.plot, _draw(options, made, measured, other, theirs))
    return EXIT_FAILED if made.failures else 0


def _draw(
    options: Options,
    made: RunFile,
    measured: Measured,
    other: OtherRun | None,
    theirs: Measured | None,
) -> bytes:
    main = measured.main
    name = options.out.name if options.out else "this run"
    ours = plot.Series(name=name, figures=made.figures, values=measured.means[main])
    compared = None
    if other is not None and theirs is not None:
        compared = plot.Series(name=other.name, figures=estimate(theirs), values=theirs.means[main])
    title = f"{made.kind} of {options.collection}, {made.time}"
    return plot.draw(title, main, ours, compared)


def _read_corpus(run: Run, options: Options) -> _Corpus:
    if options.corpus:
        items = read_documents(options.corpus, options.collection)
        known = frozenset(names.document_id(item.header.document) for item in items)
        return _Corpus(items=items, documents=None, known=known)
    documents, known = run.with_client(lambda client: inspect(client, options.collection))
    return _Corpus(items=(), documents=documents, known=known)


def _name_file(name: str, options: Options) -> Mapping[str, Path]:
    return {name: options.corpus} if options.corpus else {}


def _figures_of(question: str, measured: Measured) -> Mapping[str, Any]:
    return {name: values[question] for name, values in measured.means.items() if question in values}
