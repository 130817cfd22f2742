"""A tiny model, an engine in this process and a server, each started once."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from inference.engine_settings import EngineSettings
from inference.engines.openai import model as openai
from inference.engines.openai.model import OpenAiModel
from inference.engines.vllm.model import VllmModel, open_models
from inference.ports import Generator
from stack.ports import free_ports
from tests.vllm.tiny_model import CONTEXT_TOKENS, make_model

START_S = 240.0
TOOL_PARSER = "hermes"
ARGUMENTS = {"max_model_len": CONTEXT_TOKENS, "max_num_seqs": 64, "enforce_eager": True}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def spans() -> InMemorySpanExporter:
    """The spans of this process; vLLM uses the provider that was set before it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(model_folder: Path, spans: InMemorySpanExporter) -> AsyncIterator[VllmModel]:
    """The engine in this process."""
    nowhere = "grpc://127.0.0.1:1"
    settings = EngineSettings(
        engine="vllm",
        model=str(model_folder),
        arguments=ARGUMENTS,
        concurrency=32,
        tool_parser=TOOL_PARSER,
    )
    async with open_models(settings, nowhere) as [model]:
        yield model


@pytest.fixture(scope="session")
def server_url(model_folder: Path) -> Iterator[str]:
    """vLLM's own server of the model that writes."""
    options = [
        *("--max-model-len", str(CONTEXT_TOKENS), "--max-num-seqs", "64", "--enforce-eager"),
        *("--scheduling-policy", "priority"),
        *("--enable-auto-tool-choice", "--tool-call-parser", TOOL_PARSER),
    ]
    with serving(model_folder, options) as url:
        yield url


@contextmanager
def serving(folder: Path, options: Sequence[str]) -> Iterator[str]:
    """vLLM's own server of a model; its URL with the version."""
    [port] = free_ports(1)
    line = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(folder), "--served-model-name", "tiny"),
        *("--host", "127.0.0.1", "--port", str(port), *options),
    ]
    log = folder.parent / f"{folder.name}.log"
    with log.open("w") as out, subprocess.Popen(line, stdout=out, stderr=out) as server:
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_until_healthy(url, server, log)
            yield f"{url}/v1"
        finally:
            server.terminate()
            server.wait(60)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def served(server_url: str) -> AsyncIterator[OpenAiModel]:
    """The model of that server."""
    async with openai.open_model(server_url, send_priority=True) as model:
        yield model


@pytest.fixture(params=["process", "server"])
def model(request: pytest.FixtureRequest, engine: VllmModel, served: OpenAiModel) -> Generator:
    """Each way to the same model."""
    return engine if request.param == "process" else served


def _wait_until_healthy(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert server.poll() is None, log.read_text()[-4_000:]
        try:
            if httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            assert time.monotonic() < deadline, log.read_text()[-4_000:]
        time.sleep(0.5)


async def until(condition, limit_s: float = 20.0) -> None:
    """Waits for something that another process brings about."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)
