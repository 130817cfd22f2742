"""vLLM through Aquifer's gRPC beside vLLM called bare, one after the other with the same prompts.

It also measures how soon the engine stops for a caller who leaves.

`python -m tests.bench.gpu --model FOLDER`, in an environment with vLLM; `just test-vllm` makes one
for CPUs. It measures the output tokens a second, the time to the first token and the time of each
further token at several numbers of answers at once.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import prometheus_client
import uvloop

from aquifer.inference.v1.generation_pb2 import (
    ROLE_USER,
    GenerateRequest,
    Message,
    Part,
    Sampling,
)
from aquifer.inference.v1.inference_service_pb2_grpc import (
    InferenceServiceStub,
    add_InferenceServiceServicer_to_server,
)
from chassis.identity.revocations import Revocations
from chassis.identity.tokens import Verifier
from chassis.rpc.server import create_server, server_interceptors
from inference.catalogue import Catalogue
from inference.rpc import ACCESS, InferenceRpc
from inference.usecases import CountTokens, EmbedTexts, GenerateAnswer, ListModels, RerankTexts
from services.inference.tests.component.conftest import Signer
from tests.bench import machine
from tests.bench.figures import Aim, Figure, Row, median
from tests.bench.screen import markdown, show

ROOT: Final = Path(__file__).parents[2]
AT_ONCE: Final = (1, 8, 32, 128)
ANSWERS_EACH: Final = 3
START_S: Final = 900
CALL_S: Final = 600.0
ABORTS: Final = 20
RUNNING: Final = "vllm:num_requests_running"
ANSWER: Final = "ANSWER "
# Different first words, so that no prompt is in the prefix cache of another.
WORDS: Final = "river stone harbour winter grain ship lock keeper bridge water".split()  # noqa: SIM905


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Seconds until the first text and until the end, and the number of tokens."""

    first_s: float
    total_s: float
    tokens: int


def requests(count: int, words: int, tokens: int) -> Iterator[GenerateRequest]:
    """Prompts that have no beginning in common; the same ones each time."""
    for number in range(count):
        filler = (WORDS[(number + at) % len(WORDS)] for at in range(words))
        text = f"{number} {' '.join(filler)}"
        yield GenerateRequest(
            messages=[Message(role=ROLE_USER, parts=[Part(text=text)])],
            max_output_tokens=tokens,
            sampling=Sampling(temperature=1.0, seed=number),
        )


async def measure(
    generate: Any, levels: Sequence[int], words: int, tokens: int
) -> list[dict[str, float]]:
    """Every level after a warm-up; `generate` yields numbers of tokens, and whether text came."""
    await asyncio.gather(*(_ask(generate(one)) for one in requests(4, words, tokens)))
    found = []
    for at_once in levels:
        gate = asyncio.Semaphore(at_once)

        async def one(request: GenerateRequest, gate: asyncio.Semaphore = gate) -> Answer:
            async with gate:
                return await _ask(generate(request))

        started = time.perf_counter()
        asked = requests(at_once * ANSWERS_EACH, words, tokens)
        answers = await asyncio.gather(*map(one, asked))
        wall_s = time.perf_counter() - started
        found.append(
            {
                "at_once": at_once,
                "tokens_a_s": sum(each.tokens for each in answers) / wall_s,
                "first_ms": median([each.first_s for each in answers]) * 1e3,
                "next_ms": median(
                    [(each.total_s - each.first_s) / max(1, each.tokens - 1) for each in answers]
                )
                * 1e3,
            }
        )
    return found


async def _ask(steps: AsyncIterator[tuple[int, bool]]) -> Answer:
    started = time.perf_counter()
    first_s, tokens = 0.0, 0
    async for count, has_text in steps:
        if has_text and not first_s:
            first_s = time.perf_counter() - started
        tokens += count
    total_s = time.perf_counter() - started
    return Answer(first_s=first_s or total_s, total_s=total_s, tokens=tokens)


async def run_bare(options: argparse.Namespace) -> None:
    """Calls vLLM itself, with nothing of Aquifer, and writes the levels."""
    from vllm import AsyncEngineArgs, SamplingParams  # noqa: PLC0415
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=options.model, **options.arguments))
    tokenizer = engine.get_tokenizer()

    async def generate(request: GenerateRequest) -> AsyncIterator[tuple[int, bool]]:
        content = request.messages[0].parts[0].text
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, return_dict=False
        )
        sampling = SamplingParams(
            temperature=request.sampling.temperature,
            seed=request.sampling.seed,
            max_tokens=request.max_output_tokens,
            output_kind=RequestOutputKind.DELTA,
        )
        number = str(request.sampling.seed)
        async for output in engine.generate({"prompt_token_ids": list(ids)}, sampling, number):
            [piece] = output.outputs
            yield len(piece.token_ids), bool(piece.text)

    try:
        found = await measure(generate, options.at_once, options.words, options.tokens)
    finally:
        engine.shutdown()
    _tell(found)


async def serve(options: argparse.Namespace) -> None:
    """Serves the engine as inference does, until standard input is closed."""
    from inference.engine_settings import EngineSettings  # noqa: PLC0415
    from inference.engines.vllm.model import open_models  # noqa: PLC0415

    signer = Signer()
    verifier = Verifier(signer.keys)
    await verifier.load()
    revocations = Revocations(bus_connected=lambda: True)
    revocations.mark_polled(time.monotonic())
    settings = EngineSettings(
        engine="vllm", model=options.model, arguments=options.arguments, concurrency=4_096
    )
    async with open_models(settings) as [model]:
        catalogue = Catalogue([model])
        guards = server_interceptors("inference", verifier, revocations, ACCESS)
        server, _ = await create_server(guards, ACCESS)
        add_InferenceServiceServicer_to_server(
            InferenceRpc(
                embed=EmbedTexts(catalogue),
                generate=GenerateAnswer(catalogue),
                rerank=RerankTexts(catalogue),
                count=CountTokens(catalogue),
                models=ListModels(catalogue),
                default_profile="",
            ),
            server,
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        _tell([port, signer.bearer("models", "acme")])
        await asyncio.to_thread(sys.stdin.read)
        _tell(await measure_aborts(port, signer.bearer("models", "acme"), options))
        await server.stop(1)


async def measure_aborts(
    port: int, token: tuple[str, str], options: argparse.Namespace
) -> list[float]:
    """Seconds from closing a stream until the engine's own gauge tells that nothing runs."""
    found = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = InferenceServiceStub(channel)
        for request in requests(ABORTS, options.words, options.tokens * 4):
            call = stub.Generate(request, timeout=CALL_S, metadata=[token])
            await call.read()
            await _wait_until_running(1)
            left = time.perf_counter()
            call.cancel()
            await _wait_until_running(0)
            found.append(time.perf_counter() - left)
    return found


async def _wait_until_running(count: int) -> None:
    async with asyncio.timeout(CALL_S):
        while _count_running() != count:
            await asyncio.sleep(0.001)


def _count_running() -> float:
    """vLLM sets its gauge from what the engine tells after each of its steps."""
    families = prometheus_client.REGISTRY.restricted_registry([RUNNING]).collect()
    return sum(sample.value for family in families for sample in family.samples)


async def run_through(
    port: int, token: tuple[str, str], options: argparse.Namespace
) -> list[dict[str, float]]:
    """Calls the server, from this process."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = InferenceServiceStub(channel)

        async def generate(request: GenerateRequest) -> AsyncIterator[tuple[int, bool]]:
            async for step in stub.Generate(request, timeout=CALL_S, metadata=[token]):
                if step.WhichOneof("step") == "finish":
                    yield step.finish.usage.output_tokens, False
                else:
                    yield 0, step.WhichOneof("step") == "delta"

        return await measure(generate, options.at_once, options.words, options.tokens)


def compare(options: argparse.Namespace) -> Figure:
    """The bare engine and the served one, each in a process of its own."""
    with _child("bare", options) as child:
        bare = _listen(child)
    with _child("serve", options) as child:
        assert child.stdin is not None
        port, token = _listen(child)
        through = uvloop.run(run_through(port, tuple(token), options))
        child.stdin.close()
        aborts = _listen(child)
    rows = [row for ours, theirs in zip(through, bare, strict=True) for row in _rows(ours, theirs)]
    rows.append(
        Row(
            name="the engine stops for a caller who left, p50",
            value=median(aborts) * 1e3,
            unit="ms",
            spread=(min(aborts) * 1e3, max(aborts) * 1e3),
        )
    )
    title = f"vLLM through gRPC, beside vLLM called bare: {Path(options.model).name}"
    return Figure(name="gpu", title=title, rows=rows)


def _rows(ours: dict[str, float], bare: dict[str, float]) -> Iterator[Row]:
    at_once = f"{ours['at_once']:.0f} at once"
    yield Row(
        name=f"output tokens a second, {at_once}",
        value=ours["tokens_a_s"],
        unit="1/s",
        floor=bare["tokens_a_s"],
        ratio=ours["tokens_a_s"] / bare["tokens_a_s"],
        aim=Aim(sense=">=", limit=0.97, of="ratio"),
    )
    yield Row(
        name=f"first token, {at_once}, p50",
        value=ours["first_ms"],
        unit="ms",
        floor=bare["first_ms"],
        note=f"{ours['first_ms'] - bare['first_ms']:+.1f} ms; aim: at most 3",
    )
    yield Row(
        name=f"each further token, {at_once}, p50",
        value=ours["next_ms"],
        unit="ms",
        floor=bare["next_ms"],
        ratio=ours["next_ms"] / bare["next_ms"],
    )


@contextmanager
def _child(role: str, options: argparse.Namespace) -> Iterator["subprocess.Popen[str]"]:
    command = [
        *(sys.executable, "-m", "tests.bench.gpu", "--role", role, "--model", options.model),
        *("--arguments", json.dumps(options.arguments)),
        *("--words", str(options.words), "--tokens", str(options.tokens)),
        *(text for one in options.at_once for text in ("--at-once", str(one))),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        try:
            yield child
        finally:
            child.stdin.close()  # type: ignore[union-attr]
            child.wait(START_S)


def _tell(answer: object) -> None:
    """Writes the answer of a child; vLLM writes lines of its own."""
    sys.stdout.write(f"\n{ANSWER}{json.dumps(answer)}\n")
    sys.stdout.flush()


def _listen(child: "subprocess.Popen[str]") -> Any:
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith(ANSWER):
            return json.loads(line.removeprefix(ANSWER))
    raise RuntimeError(f"the engine did not start; code {child.wait(START_S)}")


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument(
        "--arguments", type=json.loads, default={}, help="JSON: of vllm.AsyncEngineArgs"
    )
    parser.add_argument("--at-once", type=int, action="append", help="answers at once; repeatable")
    parser.add_argument("--words", type=int, default=400, help="of each prompt")
    parser.add_argument("--tokens", type=int, default=128, help="of each answer, at most")
    parser.add_argument("--markdown", action="store_true", help="a table for the documentation")
    parser.add_argument("--role", choices=["bare", "serve"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.at_once = options.at_once or list(AT_ONCE)
    return options


if __name__ == "__main__":
    given = _parse_options()
    if given.role == "bare":
        uvloop.run(run_bare(given))
    elif given.role == "serve":
        uvloop.run(serve(given))
    else:
        before, begun = machine.look(), time.monotonic()
        figures = [compare(given)]
        about = f"{given.words} words of prompt, at most {given.tokens} tokens of answer"
        if given.markdown:
            lines = markdown(before, about, figures, time.monotonic() - begun)
            sys.stdout.write("\n".join(lines) + "\n")
        else:
            show(before, about, figures, time.monotonic() - begun)
