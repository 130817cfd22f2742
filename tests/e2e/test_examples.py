"""Every example of docs/upload-events.md works against a running stack."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nats
import pytest
from google.protobuf.message import Message

from aquifer.ingest.v1.document_events_pb2 import (
    DocumentDeleted,
    DocumentIndexed,
    DocumentUpdated,
)
from tests.contract.reasons import ROOT
from tests.e2e.conftest import RunningStack

pytestmark = pytest.mark.timeout(300)

EXAMPLES = ROOT / "examples"
RUN_S = 120
JSON_EXAMPLES: dict[str, type[Message]] = {
    "upload": DocumentIndexed,
    "description": DocumentUpdated,
    "removal": DocumentDeleted,
}
# What npm says of a registry that does not answer, or that does not let it in.
UNREACHABLE = (
    *("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH"),
    *("ERR_SOCKET_TIMEOUT", "CERT_", "_CERT", "E401", "E403", "E407", "E500", "E502", "E503"),
)


def send(stack: RunningStack, *line: str, file: Path, action: str = "upload") -> str:
    """Runs an example as a producer would; returns what it prints."""
    known = stack.endpoints
    done = subprocess.run(
        [*line, str(file), action],
        env={
            **os.environ,
            "NATS_URL": known.nats["url"],
            "NATS_USER": known.nats["user"],
            "NATS_PASSWORD": known.nats["password"],
            "AQUIFER_TENANT": known.tenant,
            "AQUIFER_PROTOS": str(ROOT / "protos"),
        },
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1]


def check_found(stack: RunningStack, name: str, said: str) -> None:
    assert said == f"DocumentIndexed collections/examples/documents/{name}"
    [hit] = stack.json("search", f"the tide of {name}", "--collection", "examples", "-k", "1")
    assert hit["document"] == f"collections/examples/documents/{name}"


def check_life(stack: RunningStack, *line: str, file: Path) -> None:
    """The whole life of a document: it is uploaded, described and removed."""
    file.write_text(f"Notes on the tide of {file.name}.")
    name = f"collections/examples/documents/{file.name}"
    check_found(stack, file.name, send(stack, *line, file=file))
    assert send(stack, *line, file=file, action="describe") == f"DocumentUpdated {name}"
    reviewed = ("--collection", "examples", "--filter", "metadata.reviewed = true")
    assert [one["document"] for one in stack.json("documents", *reviewed)] == [name]
    question = ("search", f"the tide of {file.name}", "--collection", "examples", "-k", "1")
    deadline = time.monotonic() + RUN_S
    while stack.json(*question)[0]["title"] != "A better title":
        assert time.monotonic() < deadline, "passages have the old title"
        time.sleep(0.2)
    assert send(stack, *line, file=file, action="remove") == f"DocumentDeleted {name}"
    assert name not in [hit.get("document") for hit in stack.json(*question)]


@pytest.mark.parametrize("example", ["upload_nats_py.py", "upload_faststream.py"])
def test_a_python_example_sends_every_event(stack: RunningStack, tmp_path: Path, example: str):
    line = (sys.executable, str(EXAMPLES / example))
    check_life(stack, *line, file=tmp_path / f"{example}.txt")


def test_the_node_example_sends_every_event(stack: RunningStack, tmp_path: Path, capsys):
    """Needs Node.js and its package registry, which are not of this project."""
    node, folder = shutil.which("node"), tmp_path / "node"
    shutil.copytree(EXAMPLES / "node", folder)
    problem = install_packages(folder) if node else "no node"
    if not node or problem:
        with capsys.disabled():
            sys.stderr.write(f"the Node example is not run: {problem}\n")
        return
    check_life(stack, node, str(folder / "upload.js"), file=tmp_path / "node.txt")


def test_a_node_client_chats_by_the_protos_alone(stack: RunningStack, tmp_path: Path, capsys):
    """Streams answers, cancels some, and pages through conversations; needs what the other does."""
    node, folder = shutil.which("node"), tmp_path / "node-grpc"
    shutil.copytree(EXAMPLES / "node-grpc", folder)
    problem = install_packages(folder) if node else "no node"
    if not node or problem:
        with capsys.disabled():
            sys.stderr.write(f"the Node gRPC example is not run: {problem}\n")
        return
    note = tmp_path / "lantern.txt"
    note.write_text("The lantern of the northern pier is lit at six in the evening.")
    assert stack.run("upload", str(note), "--collection", "examples", "--wait").returncode == 0
    questions = [
        "When is the lantern of the northern pier lit?",
        "Which pier?",
        "What is lit at six?",
    ]
    *asked, listed = chat(stack, node, folder / "chat.js", *questions)
    assert [one["cancelled"] for one in asked] == ["CANCELLED"] * 3
    assert [one["messages"] for one in asked] == [2] * 3  # the cancelled answer left nothing
    assert [one["reason"] for one in asked] == ["FINISH_REASON_STOP"] * 3
    assert "six in the evening" in asked[0]["text"]
    assert asked[0]["citations"] == ["collections/examples/documents/lantern.txt"]
    assert listed["titles"][:3] == questions[::-1]
    assert listed["pages"] == -(-len(listed["titles"]) // 2)


def chat(stack: RunningStack, node: str, example: Path, *questions: str) -> list[dict[str, Any]]:
    known = stack.endpoints
    done = subprocess.run(
        [node, str(example), *questions],
        env={
            **os.environ,
            "AQUIFER_AUTH": known.services["auth"],
            "AQUIFER_QUERY": known.services["query"],
            "AQUIFER_API_KEY": known.api_key,
            "AQUIFER_PROTOS": str(ROOT / "protos"),
        },
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def install_packages(folder: Path) -> str:
    """Installs what the example needs; returns why the registry cannot be used, or nothing."""
    npm = shutil.which("npm")
    if not npm:
        return "no npm"
    try:
        done = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"],
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=RUN_S,
        )
    except subprocess.TimeoutExpired:
        return f"npm took more than {RUN_S} s"
    if done.returncode and any(code in done.stderr for code in UNREACHABLE):
        return "its package registry cannot be reached"
    assert done.returncode == 0, done.stderr
    return ""


async def test_the_json_examples_are_answered(stack: RunningStack):
    """As any tool that knows NATS and nothing else would publish the files."""
    known = stack.endpoints
    connection = await nats.connect(
        known.nats["url"], user=known.nats["user"], password=known.nats["password"]
    )
    try:
        for name, kind in JSON_EXAMPLES.items():
            event = (EXAMPLES / f"events/{name}.cloudevent.json").read_bytes()
            wanted = json.loads(event)
            subject = f"{kind.DESCRIPTOR.full_name}.{known.tenant}"
            results = await connection.subscribe(subject)
            await connection.publish(
                f"{wanted['type']}.{known.tenant}",
                event,
                headers={"Content-Type": "application/cloudevents+json"},
            )
            async with asyncio.timeout(RUN_S):
                async for message in results.messages:
                    result: Any = kind.FromString(message.data)
                    if result.upload_event_id == wanted["id"]:
                        break
            assert result.document == wanted["data"]["document"]
            assert result.correlation_id == wanted["data"]["correlationId"]
    finally:
        await connection.close()
