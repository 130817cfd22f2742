"""Every example of docs/upload-events.md works against a running stack."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nats
import pytest

from aquifer.ingest.v1.document_events_pb2 import DocumentIndexed
from tests.contract.reasons import ROOT
from tests.e2e.conftest import RunningStack

pytestmark = pytest.mark.timeout(300)

EXAMPLES = ROOT / "examples"
RUN_S = 120
# What npm says of a registry that does not answer, or that does not let it in.
UNREACHABLE = (
    *("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH"),
    *("ERR_SOCKET_TIMEOUT", "CERT_", "_CERT", "E401", "E403", "E407", "E500", "E502", "E503"),
)


def upload(stack: RunningStack, *line: str, file: Path) -> str:
    """Runs an example as a producer would; returns what it prints."""
    known = stack.endpoints
    done = subprocess.run(
        [*line, str(file)],
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


@pytest.mark.parametrize("example", ["upload_nats_py.py", "upload_faststream.py"])
def test_a_python_example_uploads_a_file(stack: RunningStack, tmp_path: Path, example: str):
    file = tmp_path / f"{example}.txt"
    file.write_text(f"Notes on the tide of {file.name}.")
    said = upload(stack, sys.executable, str(EXAMPLES / example), file=file)
    check_found(stack, file.name, said)


def test_the_node_example_uploads_a_file(stack: RunningStack, tmp_path: Path, capsys):
    """Needs Node.js and its package registry, which are not of this project."""
    node, folder = shutil.which("node"), tmp_path / "node"
    shutil.copytree(EXAMPLES / "node", folder)
    problem = install_packages(folder) if node else "no node"
    if not node or problem:
        with capsys.disabled():
            sys.stderr.write(f"the Node example is not run: {problem}\n")
        return
    file = tmp_path / "node.txt"
    file.write_text("Notes on the tide of node.txt.")
    said = upload(stack, node, str(folder / "upload.js"), file=file)
    check_found(stack, file.name, said)


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


async def test_the_json_example_uploads_its_document(stack: RunningStack):
    """As any tool that knows NATS and nothing else would publish the file."""
    event, known = (EXAMPLES / "events/upload.cloudevent.json").read_bytes(), stack.endpoints
    wanted = json.loads(event)
    connection = await nats.connect(
        known.nats["url"], user=known.nats["user"], password=known.nats["password"]
    )
    try:
        results = await connection.subscribe(f"aquifer.ingest.v1.DocumentIndexed.{known.tenant}")
        await connection.publish(
            f"aquifer.ingest.v1.DocumentUploaded.{known.tenant}",
            event,
            headers={"Content-Type": "application/cloudevents+json"},
        )
        async with asyncio.timeout(RUN_S):
            async for message in results.messages:
                indexed = DocumentIndexed.FromString(message.data)
                if indexed.upload_event_id == wanted["id"]:
                    break
    finally:
        await connection.close()
    assert indexed.document == wanted["data"]["document"]
    assert indexed.correlation_id == wanted["data"]["correlationId"]
