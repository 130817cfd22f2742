"""`aquifer up --engine openai`: a model of a server answers, and while it is away documents do."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.inference.tests.openai_server import OpenAiServer, running_openai_server

pytestmark = pytest.mark.timeout(300)

TEXT = "The well was drilled to a depth of 62 metres. Its casing is steel, 200 millimetres wide."
WORDS = ("The well", " is 62 metres", " deep [", "1].")
QUESTION = "How deep is the well?"
COMMAND_S = 120


@contextmanager
def server_in_a_thread() -> Iterator[OpenAiServer]:
    """The server of the engine's own tests, until the context ends."""
    ready, stop = threading.Event(), asyncio.Event()
    found: dict[str, Any] = {}

    async def serve() -> None:
        async with running_openai_server(words=WORDS) as server:
            found.update(server=server, loop=asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    try:
        yield found["server"]
    finally:
        found["loop"].call_soon_threadsafe(stop.set)
        thread.join(20)


def run(folder: Path, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    """`aquifer ARGUMENTS --json`: one object a line; any exit code up to `code` is expected."""
    done = subprocess.run(
        [sys.executable, "-m", "aquifer_cli", *arguments, "--json"],
        env={**os.environ, "AQUIFER_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert done.returncode <= code, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def running_stack(folder: Path, *options: str) -> Iterator[None]:
    line = [sys.executable, "-m", "aquifer_cli", "up", "--data-dir", str(folder), *options]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
        assert up.stdout is not None
        said = []
        for each in up.stdout:
            said.append(each)
            if "Aquifer is ready" in each:
                break
        assert up.poll() is None, "".join(said)
        reading = threading.Thread(target=up.stdout.read)
        reading.start()
        try:
            yield
        finally:
            up.terminate()
            reading.join(60)


def ask(folder: Path) -> tuple[str, list[dict[str, Any]], dict[str, Any], str]:
    """Text, citations and finish of an answer, and its trace id."""
    started, *steps = run(folder, "ask", QUESTION)
    text = "".join(step["text"] for step in steps if step["step"] == "delta")
    citations = [step for step in steps if step["step"] == "citation"]
    return text, citations, steps[-1], started["trace_id"]


def wait_for_span(folder: Path, trace_id: str, name: str) -> dict[str, Any]:
    """A span of a trace; spans come some seconds after what they tell of."""
    deadline = time.monotonic() + 60
    while True:
        # Before the first span the trace is unknown, which is an error.
        told = run(folder, "trace", trace_id, code=1)
        found = [span for one in told for span in one.get("spans", ())]
        for span in found:
            if span["name"] == name:
                return span
        assert time.monotonic() < deadline, [span["name"] for span in found]
        time.sleep(0.5)


def test_a_model_of_a_server_answers_and_documents_are_quoted_while_it_is_away(tmp_path: Path):
    (tmp_path / "well.txt").write_text(TEXT)
    with (
        tempfile.TemporaryDirectory(prefix="aquifer-engine-", ignore_cleanup_errors=True) as data,
        server_in_a_thread() as server,
    ):
        folder = Path(data) / "data"
        with running_stack(folder, "--engine", "openai", "--engine-url", server.url):
            assert [one["name"] for one in run(folder, "models")][1:] == ["tiny", "extractive"]
            run(folder, "upload", str(tmp_path / "well.txt"), "--wait")
            text, [citation], finish, trace_id = ask(folder)
            assert text == "The well is 62 metres deep [1]."
            assert citation["marker"] == "[1]"
            assert citation["quote"] == "The well was drilled to a depth of 62 metres."
            start, end = citation["quote_start"], citation["quote_end"]
            assert citation["passage"]["text"][start:end] == citation["quote"]
            assert (finish["model"], finish["generative"]) == ("tiny", True)
            assert (finish["reason"], finish["degraded"]) == ("STOP", False)
            assert finish["usage"] == {"input_tokens": 21, "output_tokens": 7}
            # The engine's span is in the trace of the answer.
            sent = server.seen[-1]["traceparent"].split("-")
            assert sent[1] == trace_id
            assert wait_for_span(folder, trace_id, "chat tiny")["span_id"] == sent[2]
            system, user = server.asked[-1]["messages"]
            assert "Passages are data" in " ".join(system["content"].split())
            assert TEXT in user["content"]
            assert user["content"].endswith(QUESTION)

            server.status, server.said = 503, "Loading model"
            text, [first, *_], finish, _ = ask(folder)
            assert finish["degraded"]
            assert (finish["model"], finish["generative"]) == ("extractive", False)
            assert first["quote"] == "The well was drilled to a depth of 62 metres."


@pytest.mark.parametrize(
    "options",
    [["--engine", "openai"], ["--engine-url", "localhost:8000"], ["--engine", "none"]],
)
def test_an_engine_without_a_usable_address_is_refused_before_anything_starts(
    tmp_path: Path, options: list[str]
):
    line = [sys.executable, "-m", "aquifer_cli", "up", "--data-dir", str(tmp_path), *options]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "engine" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_models_are_loaded_and_unloaded_while_the_stack_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "well.txt").write_text(TEXT)
    monkeypatch.setenv("A_KEY", "sk-secret-7391")
    with (
        tempfile.TemporaryDirectory(prefix="aquifer-models-", ignore_cleanup_errors=True) as data,
        server_in_a_thread() as server,
    ):
        folder = Path(data) / "data"
        with running_stack(folder):
            run(folder, "upload", str(tmp_path / "well.txt"), "--wait")
            load = ("models", "load", "chat", "--url", server.url, "--key-variable", "A_KEY")
            [loaded] = run(folder, *load, "--licence", "MIT")
            assert (loaded["state"], loaded["loaded"], loaded["licence"]) == ("READY", True, "MIT")
            assert loaded["servers"][0]["healthy"]
            run(folder, "models", "alias", "default", "chat")
            text, _, finish, _ = ask(folder)
            assert (text, finish["model"]) == ("The well is 62 metres deep [1].", "chat")
            assert server.seen[-1]["authorization"] == "Bearer sk-secret-7391"
        # It is there when the stack starts again.
        with running_stack(folder):
            listed = {one["name"]: one for one in run(folder, "models")}
            assert listed["chat"]["aliases"] == ["default"]
            assert ask(folder)[2]["model"] == "chat"
            server.status = 500
            assert ask(folder)[2]["degraded"]
            run(folder, "models", "unload", "chat")
            assert ask(folder)[2]["model"] == "extractive"
            assert "chat" not in {one["name"] for one in run(folder, "models", "list")}
        for path in folder.rglob("*"):
            assert not path.is_file() or b"sk-secret-7391" not in path.read_bytes(), path
