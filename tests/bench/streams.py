"""Answers that stream through `Generate` from an engine with a steady pace."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

import httpx2

from aquifer.inference.v1.generation_pb2 import ROLE_USER, GenerateRequest, Message, Part
from aquifer_cli.client import Client, open_client
from tests.bench import processes
from tests.bench.figures import Aim, Figure, Row, median
from tests.bench.floors import ROOT
from tests.bench.running_stack import make_folder, run_stack

NAME = "streams"
TITLE = "answers at once, streamed through Generate from an engine with a steady pace"
STREAMS: Final = 32
RATE: Final = 100.0
TOKENS: Final = 600
CALL_S: Final = 60.0
BODY: Final = {
    "model": "paced",
    "messages": [{"role": "user", "content": "go"}],
    "stream": True,
    "max_tokens": TOKENS,
}


def measure(repetitions: int) -> Figure:
    """The rate at which tokens arrive, through gRPC and at a client of the engine, in turn."""
    with make_folder() as folder, _paced_server() as url:
        settings = {"AQUIFER_ENGINE": "openai", "AQUIFER_ENGINE_URL": url}
        with run_stack(folder, settings) as running:
            pids = processes.of(running.stack)

            async def run() -> tuple[list[float], list[float], list[float]]:
                through, direct, cpu = [], [], []
                async with open_client(running.endpoints) as client:
                    for _ in range(repetitions):
                        before = processes.cpu_by_part(pids)["inference"]
                        through += await _at_once([_generate(client) for _ in range(STREAMS)])
                        cpu.append(processes.cpu_by_part(pids)["inference"] - before)
                        async with httpx2.AsyncClient(timeout=CALL_S, trust_env=False) as http:
                            direct += await _at_once([_read(http, url) for _ in range(STREAMS)])
                return through, direct, cpu

            through, direct, cpu = asyncio.run(run())
    a_token = median(cpu) / (STREAMS * TOKENS)
    return Figure(
        name=NAME,
        title=TITLE,
        rows=[
            Row(
                name=f"tokens a second of a stream, {STREAMS} at once",
                value=median(through),
                unit="1/s",
                spread=(min(through), max(through)),
                floor=median(direct),
                ratio=median(through) / RATE,
                aim=Aim(sense=">=", limit=0.98, of="ratio"),
                note=f"ratio: of the pace, {RATE:g}; floor column: a client of the engine itself",
            ),
            Row(
                name="CPU of inference",
                value=a_token * 1e6,
                unit="us/token",
                note="what is ready within 10 ms travels as one message",
            ),
        ],
    )


async def _at_once(streams: list[AsyncIterator[int]]) -> list[float]:
    return list(await asyncio.gather(*map(_rate, streams)))


async def _rate(pieces: AsyncIterator[int]) -> float:
    """Tokens a second between the first and the last piece of a stream."""
    tokens, first, first_s, last_s = 0, 0, 0.0, 0.0
    async for count in pieces:
        last_s = time.perf_counter()
        if not tokens:
            first, first_s = count, last_s
        tokens += count
    assert tokens == TOKENS, f"{tokens} of {TOKENS} tokens arrived"
    return (tokens - first) / (last_s - first_s)


async def _generate(client: Client) -> AsyncIterator[int]:
    """The number of tokens in each message."""
    request = GenerateRequest(
        messages=[Message(role=ROLE_USER, parts=[Part(text="go")])], max_output_tokens=TOKENS
    )
    metadata = await client.credentials()
    async for step in client.inference.Generate(request, timeout=CALL_S, metadata=metadata):
        if step.WhichOneof("step") == "delta":
            yield step.delta.text.count(" w")


async def _read(http: httpx2.AsyncClient, url: str) -> AsyncIterator[int]:
    """The number of tokens in each piece that arrives."""
    async with http.stream("POST", f"{url}/chat/completions", json=BODY) as response:
        async for piece in response.aiter_text():
            if count := piece.count('" w'):
                yield count


@contextmanager
def _paced_server() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.bench.paced_server", str(RATE), str(TOKENS)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        finally:
            server.stdin.close()
