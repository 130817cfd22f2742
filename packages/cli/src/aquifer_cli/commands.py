"""The commands: parse, call one function, show what came of it."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from aquifer_cli import ask as asking
from aquifer_cli import demo as demonstration
from aquifer_cli import documents as listing
from aquifer_cli import endpoints, names
from aquifer_cli import status as reporting
from aquifer_cli import trace as tracing
from aquifer_cli import upload as uploading
from aquifer_cli.answer import show_answer
from aquifer_cli.client import Client
from aquifer_cli.command import Run, cli, command
from aquifer_cli.errors import EXIT_FAILED
from aquifer_cli.screen import Screen

__all__ = ["cli"]

PREVIEW_CHARS = 300
SHOWN = 20

_COLLECTION = click.option(
    "--collection", "-c", default=names.COLLECTION_DEFAULT, show_default=True, help="Collection id."
)
_COLLECTION_ANY = click.option("--collection", "-c", default="", help="Only this collection.")
_WAIT = click.option("--wait", is_flag=True, help="Until every document is indexed or failed.")


@command(cli, "up")
@click.option("--base-port", type=click.IntRange(1024, 65000), help="First port; else any free.")
def up(run: Run, base_port: int | None) -> int:
    """Starts the whole house on this machine, until Ctrl-C or SIGTERM."""
    folder = run.data_dir or endpoints.default_data_dir()
    arguments = ["up", "--data-dir", str(folder.absolute())]
    arguments += ["--base-port", str(base_port)] if base_port else []
    arguments += ["--json"] if run.screen.machine else []
    # The supervisor takes this process over: one process to stop, and nothing between.
    os.execv(sys.executable, [sys.executable, "-m", "stack", *arguments])  # noqa: S606


@command(cli, "demo")
def demo(run: Run) -> int:
    """The whole journey in a fresh folder: event, index, cited answers, trace; then stops."""
    return demonstration.run(run.screen)


@command(cli, "upload")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@_COLLECTION
@_WAIT
def upload(run: Run, paths: tuple[Path, ...], collection: str, *, wait: bool) -> int:
    """Uploads files, and everything below folders."""
    return _send(run, list(uploading.files(paths, collection)), wait=wait)


@command(cli, "import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_COLLECTION
@_WAIT
def import_(run: Run, file: Path, collection: str, *, wait: bool) -> int:
    """Uploads one document a line: _id, title, text, optional metadata."""
    return _send(run, uploading.lines(file, collection), wait=wait)


def _send(run: Run, items: list[uploading.Item], *, wait: bool) -> int:
    screen = run.screen
    label = "indexing" if wait else "uploading"
    with screen.progress(label, len(items)) as bar:

        def done(outcome: uploading.Outcome) -> None:
            if screen.machine:
                screen.record(outcome.as_json())
            bar.advance()

        outcomes = run.with_client(
            lambda client: uploading.send(client, items, wait=wait, done=done)
        )
    failed = [outcome for outcome in outcomes if outcome.failed]
    if not screen.machine:
        _show_outcomes(screen, outcomes, failed)
    return EXIT_FAILED if failed else 0


def _show_outcomes(
    screen: Screen, outcomes: list[uploading.Outcome], failed: list[uploading.Outcome]
) -> None:
    shown = outcomes if len(outcomes) <= SHOWN else failed[:SHOWN]
    if shown:
        screen.table(
            "",
            ["file", "document", "version", "state", "reason"],
            ([o.path, o.document, o.version or "", o.state, o.reason] for o in shown),
        )
    for outcome in failed[:SHOWN]:
        screen.note(f"{outcome.path}: {outcome.detail}")
    states: dict[str, int] = {}
    for outcome in outcomes:
        states[outcome.state] = states.get(outcome.state, 0) + 1
    screen.say(", ".join(f"{count} {state}" for state, count in sorted(states.items())))


@command(cli, "documents")
@_COLLECTION_ANY
@click.option("--state", default="", help="Only this state.")
def documents(run: Run, collection: str, state: str) -> int:
    """Lists documents with the state of their newest version."""

    async def work(client: Client) -> None:
        rows = []
        async for document in listing.listed(client, collection, state.upper()):
            if run.screen.machine:
                run.screen.record(listing.as_json(document))
            rows.append(document)
        if not run.screen.machine:
            run.screen.table(
                f"{len(rows)} documents",
                ["document", "version", "state", "reason", "chunks", "bytes", "title"],
                (
                    [
                        d.name,
                        d.version,
                        uploading.state_name(d.state),
                        d.reason,
                        d.chunk_count,
                        d.size_bytes,
                        d.title[:60],
                    ]
                    for d in rows
                ),
            )

    run.with_client(work)
    return 0


@command(cli, "search")
@click.argument("question", required=False)
@_COLLECTION_ANY
@click.option("--limit", "-k", default=10, show_default=True, type=click.IntRange(1, 100))
@click.option("--queries", type=click.Path(path_type=Path, exists=True))
@click.option("--run", "run_file", type=click.Path(path_type=Path))
def search(
    run: Run,
    question: str | None,
    collection: str,
    limit: int,
    queries: Path | None,
    run_file: Path | None,
) -> int:
    """Ranks passages against a question; or writes a TREC run for a file of queries."""
    if (queries is None) == (question is None) or (queries is None) != (run_file is None):
        raise click.UsageError("give a QUESTION, or --queries FILE with --run OUT")
    if queries is not None and run_file is not None:
        return _search_run(run, queries, run_file, collection, limit)
    assert question is not None
    text = question
    hits = run.with_client(
        lambda client: asking.search(client, text, collection=collection, limit=limit)
    )
    for rank, hit in enumerate(hits, 1):
        if run.screen.machine:
            run.screen.record(asking.hit_json(rank, hit))
            continue
        passage = hit.passage
        page = f" page {passage.page}" if passage.page else ""
        run.screen.say(
            f"{rank:>2}. {passage.document} v{passage.version}{page}  {hit.score:.3f}", style="bold"
        )
        preview = " ".join(passage.text.split())
        run.screen.say(f"    {preview[:PREVIEW_CHARS]}{'…' * (len(preview) > PREVIEW_CHARS)}")
    if not hits:
        run.screen.say("nothing found")
    return 0


def _search_run(run: Run, queries: Path, run_file: Path, collection: str, limit: int) -> int:
    pairs = asking.read_queries(queries)
    with run.screen.progress("searching", len(pairs)) as bar, run_file.open("w") as out:
        run.with_client(
            lambda client: asking.write_run(
                client, pairs, out, collection=collection, limit=limit, done=bar.advance
            )
        )
    if run.screen.machine:
        run.screen.record({"queries": len(pairs), "run": str(run_file)})
    run.screen.say(f"{len(pairs)} queries, run in {run_file}")
    return 0


@command(cli, "ask")
@click.argument("question")
@_COLLECTION_ANY
def ask(run: Run, question: str, collection: str) -> int:
    """Answers a question from the documents, with citations, as it comes."""

    async def work(client: Client) -> None:
        await show_answer(client, run.screen, question, collection)

    run.with_client(work)
    return 0


@command(cli, "delete")
@click.argument("document")
def delete(run: Run, document: str) -> int:
    """Deletes a document: when this returns, no search finds it any more."""
    deleted = run.with_client(lambda client: listing.delete(client, document))
    if run.screen.machine:
        run.screen.record(listing.as_json(deleted))
    run.screen.say(f"{deleted.name}: {uploading.state_name(deleted.state)}")
    return 0


@command(cli, "trace")
@click.argument("identifier", metavar="ID")
def trace(run: Run, identifier: str) -> int:
    """Draws the waterfall of a trace, a document or an answer."""
    traces = tracing.find(endpoints.find(run.data_dir).traces, identifier)
    for nodes in traces:
        if run.screen.machine:
            run.screen.record(
                {"trace_id": nodes[0].trace_id, "spans": [node.as_json() for node in nodes]}
            )
            continue
        for line in tracing.waterfall(nodes):
            run.screen.out.print(line, overflow="ignore", no_wrap=True, crop=False)
    return 0


@command(cli, "status")
def status(run: Run) -> int:
    """Parts, versions and backlog."""
    state = run.with_client(reporting.gather)
    if run.screen.machine:
        run.screen.record(state)
        return 0
    parts: Any = state["parts"]
    run.screen.table(
        "parts",
        ["service", "version", "ready", "address", "what is missing"],
        (
            [
                part["service"],
                part.get("version", "?"),
                "yes" if part["ready"] else "NO",
                part["address"],
                "; ".join(part["not_ready"]),
            ]
            for part in parts
        ),
    )
    run.screen.table(
        "backlog of consumers",
        ["durable", "pending", "in flight", "waits for"],
        (
            [c["durable"], c["pending"], c["in_flight"], c["pause_reason"]]
            for part in parts
            for c in part.get("consumers", ())
        ),
    )
    stages = [stage for part in parts for stage in part.get("stages", ())]
    run.screen.table(
        "unfinished documents",
        ["stage", "tenant", "documents", "oldest, s"],
        ([s["stage"], s["tenant"], s["documents"], s["oldest_age_s"]] for s in stages),
    )
    models: Any = state["models"]
    run.screen.table(
        "models",
        ["model", "engine", "precision", "kind"],
        (
            [
                model["name"],
                model["engine"],
                model["precision"],
                "composes" if model["generative"] else "embeds or quotes",
            ]
            for model in models
        ),
    )
    return 0 if all(part["ready"] for part in parts) else EXIT_FAILED


@cli.group()
def bus() -> None:
    """The event bus."""


@command(bus, "apply")
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(1, 5))
def apply(run: Run, replicas: int) -> int:
    """Brings streams and durables in line with the contract; prints the difference.

    Takes AQUIFER_NATS_URL, AQUIFER_NATS_USER and AQUIFER_NATS_PASSWORD of the provisioning user.
    """
    arguments = ["apply", "--replicas", str(replicas)] + (["--json"] if run.screen.machine else [])
    os.execv(  # noqa: S606
        sys.executable, [sys.executable, "-m", "chassis.provision", *arguments]
    )
