"""`aquifer demo`: a stack in a temporary folder that is removed at the end."""

import asyncio
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import nats
import nats.errors
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from aquifer.ingest.v1.document_events_pb2 import DocumentAccepted, DocumentFailed, DocumentIndexed
from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from aquifer.query.v1.query_service_pb2 import AskRequest
from aquifer_cli import endpoints, names
from aquifer_cli import trace as tracing
from aquifer_cli import upload as uploading
from aquifer_cli.answer import Shown, show_answer
from aquifer_cli.client import Client, open_client
from aquifer_cli.endpoints import Endpoints
from aquifer_cli.errors import EXIT_FAILED, CommandError
from aquifer_cli.interrupts import list_signals, run_async
from aquifer_cli.launch import command_of
from aquifer_cli.screen import Screen
from aquifer_cli.waterfall import draw_waterfall

START_S = 90.0
STOP_S = 30.0
RESULT_S = 30.0
REPUBLISH_S = 3.0
SPANS_S = 10.0
UPLOADED = ("aquifers.md", "well-handbook.html", "spring-survey.pdf")
PUBLISHED = "drought-plan.txt"
QUESTIONS = (
    "How deep is the village well?",
    "When does stage two of the drought plan begin?",
)
UNANSWERED = "Who won the football world cup in 1998?"


def run(screen: Screen) -> int:
    """Runs the demo; 0 if every step was successful."""
    # A kill from outside, or a terminal that closes, should clean up like Ctrl-C does.
    for number in list_signals():
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    started = time.monotonic()
    with _make_folder() as folder, _start_stack(folder, screen) as found:
        screen.say(f"the stack is up after {time.monotonic() - started:.1f} s")
        passed = run_async(_run_steps(found, screen))
    seconds = time.monotonic() - started
    if screen.machine:
        screen.record({"passed": passed, "seconds": round(seconds, 1)})
    screen.say()
    screen.say(f"{'passed' if passed else 'FAILED'}; everything stopped after {seconds:.1f} s")
    screen.note("next: `aquifer up`, and in another terminal `aquifer upload FOLDER --wait`")
    return 0 if passed else EXIT_FAILED


@contextmanager
def _make_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="aquifer-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _start_stack(folder: Path, screen: Screen) -> Iterator[Endpoints]:
    """A stack in a child process that ends with this process in any case."""
    line = command_of("stack", "up", "--data-dir", str(folder), "--stop-with-stdin")
    with (folder / "up.log").open("wb") as log:
        # The stack stops when its standard input is closed, that is when this process ends.
        child = subprocess.Popen(  # noqa: S603
            line, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    try:
        with screen.show_waiting(
            "starting four services, NATS, PostgreSQL and a vector engine ..."
        ):
            _wait_until_up(child, folder)
        yield endpoints.find(folder)
    finally:
        # A second Ctrl-C would leave the folder behind; the wait is bounded.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with screen.show_waiting("stopping ..."):
            _stop(child)


def _stop(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _wait_until_up(child: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while not (folder / endpoints.FILE).exists():
        if child.poll() is not None or time.monotonic() > deadline:
            said = (folder / "up.log").read_text(errors="replace")[-2000:]
            raise CommandError("STACK_NOT_STARTED", f"the stack did not start:\n{said}")
        time.sleep(0.05)


async def _run_steps(found: Endpoints, screen: Screen) -> bool:
    async with open_client(found) as client:
        uploads = await _upload(client, screen)
        trace_id, indexed = await _publish(found, screen)
        _step(screen, "3. ask three questions; the documents do not answer the last one")
        answers = [await _ask(client, screen, question) for question in (*QUESTIONS, UNANSWERED)]
    _step(screen, "4. the trace of the document, from the upload event to the index")
    upload_trace = await _show_trace(found, screen, trace_id)
    _step(screen, "5. the trace of the second answer; its link leads to the trace above")
    answer_trace = await _show_trace(found, screen, answers[1].answer_id)
    return (
        uploads
        and indexed
        and [answer.reason for answer in answers] == ["STOP", "STOP", "NO_ANSWER"]
        and {"ingest", "inference", "query"} <= {node.service for node in upload_trace}
        and any(trace_id in node.links for node in answer_trace)
    )


def _step(screen: Screen, title: str) -> None:
    screen.say()
    screen.say(title, style="bold")


async def _upload(client: Client, screen: Screen) -> bool:
    """Three real documents of three formats, over gRPC."""
    _step(screen, "1. upload three documents")
    with resources.as_file(resources.files("aquifer_cli") / "demo_documents") as folder:
        items = uploading.find_files([folder / name for name in UPLOADED], names.COLLECTION_DEFAULT)
        outcomes = await uploading.send(client, items, wait=True, on_done=lambda _: None)
    for outcome in outcomes:
        if screen.machine:
            screen.record(outcome.as_json())
        screen.say(f"   {outcome.state} {outcome.document} v{outcome.version} {outcome.reason}")
    return all(outcome.state == "INDEXED" for outcome in outcomes)


async def _publish(found: Endpoints, screen: Screen) -> tuple[str, bool]:
    """One event as an upstream system would send it; returns its trace id and its success.

    Raises:
        CommandError: RESULT_MISSING.
    """
    _step(screen, "2. publish a DocumentUploaded event, as an upstream system would")
    text = (resources.files("aquifer_cli") / "demo_documents" / PUBLISHED).read_bytes()
    event = DocumentUploaded(
        tenant=found.tenant,
        document=names.document_name(names.COLLECTION_DEFAULT, PUBLISHED),
        file_name=PUBLISHED,
        content=text,
        correlation_id="demo-1",
    )
    trace_id = secrets.token_hex(16)
    event_id = str(uuid.uuid4())
    try:
        async with _connect(found) as connection:
            result = await _publish_until_result(connection, event, event_id, trace_id)
    except (TimeoutError, OSError, nats.errors.Error) as error:
        raise CommandError(
            "RESULT_MISSING",
            f"no result event within {RESULT_S:.0f} s: {type(error).__name__} {error}".rstrip(),
        ) from error
    name = result.DESCRIPTOR.name
    reason = result.reason if isinstance(result, DocumentFailed) else ""
    if screen.machine:
        screen.record({"event": name, "document": result.document, "trace_id": trace_id})
    screen.say(f"   result event: {name} {result.document} v{result.version} {reason}")
    return trace_id, isinstance(result, DocumentIndexed)


@asynccontextmanager
async def _connect(found: Endpoints) -> AsyncIterator[NatsClient]:
    connection = await nats.connect(
        found.nats["url"], user=found.nats["user"], password=found.nats["password"]
    )
    try:
        yield connection
    finally:
        await connection.close()


async def _publish_until_result(
    connection: NatsClient, event: DocumentUploaded, event_id: str, trace_id: str
) -> DocumentIndexed | DocumentFailed:
    """Publishes until accepted, then waits for the one final result."""
    accepted = asyncio.Event()
    results: asyncio.Queue[DocumentIndexed | DocumentFailed] = asyncio.Queue()

    async def on_accepted(message: Msg) -> None:
        if DocumentAccepted.FromString(message.data).upload_event_id == event_id:
            accepted.set()

    async def on_indexed(message: Msg) -> None:
        indexed = DocumentIndexed.FromString(message.data)
        if indexed.upload_event_id == event_id:
            results.put_nowait(indexed)

    async def on_failed(message: Msg) -> None:
        failed = DocumentFailed.FromString(message.data)
        if failed.upload_event_id == event_id:
            results.put_nowait(failed)

    for kind, listener in (
        (DocumentAccepted, on_accepted),
        (DocumentIndexed, on_indexed),
        (DocumentFailed, on_failed),
    ):
        subject = f"{kind.DESCRIPTOR.full_name}.{event.tenant}"
        await connection.subscribe(subject, cb=listener)
    headers = {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-source": "/demo/upstream",
        "ce-type": DocumentUploaded.DESCRIPTOR.full_name,
        "ce-time": datetime.now(UTC).isoformat(),
        "Content-Type": "application/protobuf",
        "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01",
    }
    async with asyncio.timeout(RESULT_S):
        while not accepted.is_set() and results.empty():
            await connection.publish(
                f"{DocumentUploaded.DESCRIPTOR.full_name}.{event.tenant}",
                event.SerializeToString(),
                headers=headers,
            )
            await _wait_for(accepted, REPUBLISH_S)
        return await results.get()


async def _wait_for(event: asyncio.Event, limit_s: float) -> None:
    """Waits for the event, at most `limit_s`."""
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return


async def _ask(client: Client, screen: Screen, question: str) -> Shown:
    screen.say()
    screen.say(f"   {question}", style="italic")
    return await show_answer(client, screen, AskRequest(question=question), indent="      ")


async def _show_trace(found: Endpoints, screen: Screen, identifier: str) -> list[tracing.Node]:
    """A trace, once its last spans have arrived at the sink."""
    nodes = await _find_complete_trace(found, identifier)
    if screen.machine:
        screen.record(tracing.as_json(nodes))
        return nodes
    for line in draw_waterfall(nodes, screen.width):
        screen.say(line)
    return nodes


async def _find_complete_trace(found: Endpoints, identifier: str) -> list[tracing.Node]:
    """Services export in batches: asks until the trace has stopped growing."""
    deadline = time.monotonic() + SPANS_S
    nodes: list[tracing.Node] = []
    while True:
        before = len(nodes)
        try:
            nodes = (await asyncio.to_thread(tracing.find, found.traces, identifier))[0]
        except CommandError:
            if time.monotonic() > deadline:
                raise
        if (nodes and len(nodes) == before) or time.monotonic() > deadline:
            return nodes
        await asyncio.sleep(1.0)
