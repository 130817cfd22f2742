"""A server that speaks OpenAI's protocol, on a real socket, and fails as a test asks for.

It answers with the words that a test gives it, and writes bytes as they are, so that a stream can
be cut, stall, or break the protocol at any place.
"""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Headers = dict[str, str]
Writer = asyncio.StreamWriter

DIMENSIONS = 16
MODEL = {"id": "tiny", "object": "model", "owned_by": "vllm", "max_model_len": 1024}
USAGE = {
    "prompt_tokens": 21,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 16},
}


def event(value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def chunk(delta: object = None, finish_reason: str | None = None, **more: Any) -> bytes:
    """One event of an answer."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish_reason}
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more})


@dataclass
class OpenAiServer:
    """What it answers, and what it was asked.

    Attributes:
        words: of the next answers.
        status: of the next answers; not 200 with `said` as its body.
        before: bytes written in place of the answer's events, or of vectors and scores.
        pause_s: before each event, or before vectors and scores.
        refused_times: only so many of the next requests get `status`; None: all.
        max_chars: a longer text is refused, as vLLM words it; None: any length is taken.
        poison: a text that is refused.
        twist: changes vectors or scores before they are sent.
        cut_at: only so many bytes of vectors or scores are sent.
        base64: whether vectors are sent in base64 when that is asked for; None: it is refused.
        running: answers that are being written.
    """

    words: Sequence[str] = ("The well", " is deep", " [1].")
    status: int = 200
    said: str = ""
    headers: Headers = field(default_factory=dict)
    before: bytes | None = None
    kind: str = "text/event-stream"
    pause_s: float = 0.0
    ends: bool = True
    models: Sequence[dict[str, Any]] = (MODEL,)
    refused_times: int | None = None
    max_chars: int | None = None
    poison: str = ""
    twist: Callable[[Any], object] = lambda answer: answer
    cut_at: int | None = None
    base64: bool | None = True
    running: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    seen: list[Headers] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        """One request of a connection."""
        try:
            method, path, headers = await _read_head(reader)
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.seen.append(headers)
            if body:
                self.asked.append(json.loads(body))
            await self._answer(method, path, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has left
        finally:
            writer.close()

    async def _answer(
        self, method: str, path: str, reader: asyncio.StreamReader, writer: Writer
    ) -> None:
        if self._is_refused():
            await _respond(
                writer, self.status, self.said.encode(), "application/json", self.headers
            )
        elif path == "/v1/models":
            await _respond_json(writer, {"object": "list", "data": list(self.models)})
        elif path == "/tokenize":
            given = self.asked[-1]
            tokens = str(given.get("prompt", given.get("content"))).split()
            await _respond_json(writer, {"count": len(tokens), "tokens": list(range(len(tokens)))})
        elif (method, path) == ("POST", "/v1/chat/completions"):
            await self._stream(reader, writer)
        elif (method, path) == ("POST", "/v1/embeddings"):
            await self._give(reader, writer, self._embed)
        elif (method, path) == ("POST", "/v1/rerank"):
            await self._give(reader, writer, self._rerank)
        else:
            await _respond(writer, 404, b"{}", "application/json", {})

    def _is_refused(self) -> bool:
        if self.status == 200 or self.refused_times == 0:
            return False
        if self.refused_times is not None:
            self.refused_times -= 1
        return True

    async def _give(
        self,
        reader: asyncio.StreamReader,
        writer: Writer,
        make: Callable[[dict[str, Any]], tuple[int, object]],
    ) -> None:
        """An answer in one piece, unless the client leaves before."""
        self.running += 1
        left = asyncio.ensure_future(reader.read(1))
        try:
            status, answer = make(self.asked[-1])
            waited, _ = await asyncio.wait({left}, timeout=self.pause_s)
            if waited:
                return
            body = json.dumps(self.twist(answer)) if status == 200 else json.dumps(answer)
            content = self.before if self.before is not None else body.encode()
            await _respond(writer, status, content, "application/json", self.headers, self.cut_at)
        finally:
            left.cancel()
            self.running -= 1

    def _embed(self, asked: dict[str, Any]) -> tuple[int, object]:
        texts, in_base64 = asked["input"], asked.get("encoding_format") == "base64"
        if in_base64 and self.base64 is None:
            return 400, {"error": {"message": "encoding_format base64 is not supported"}}
        if self.poison in texts:
            return 400, {"error": {"message": f"cannot read {self.poison}"}}
        if refusal := self._refuse_long(texts):
            return 400, refusal
        data = [
            {
                "object": "embedding",
                "index": at,
                "embedding": encode(vector_of(text))
                if in_base64 and self.base64
                else vector_of(text).tolist(),
            }
            for at, text in enumerate(texts)
        ]
        tokens = sum(map(len, texts))
        return 200, {"object": "list", "data": data, "usage": {"prompt_tokens": tokens}}

    def _rerank(self, asked: dict[str, Any]) -> tuple[int, object]:
        question, texts = asked["query"], asked["documents"]
        if refusal := self._refuse_long([question + text for text in texts]):
            return 400, refusal
        scores = [share_of(question, text) for text in texts]
        order = sorted(range(len(texts)), key=lambda at: -scores[at])
        results = [{"index": at, "relevance_score": scores[at]} for at in order]
        return 200, {"results": results[: asked.get("top_n") or len(texts)]}

    def _refuse_long(self, texts: Sequence[str]) -> object:
        if self.max_chars is None or max(map(len, texts)) <= self.max_chars:
            return None
        said = f"This model's maximum context length is {self.max_chars} tokens."
        return {"error": {"message": said}}

    async def _stream(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {self.kind}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        self.running += 1
        left = asyncio.ensure_future(reader.read(1))
        try:
            async for part in self._events():
                writer.write(part)
                await writer.drain()
                waited, _ = await asyncio.wait({left}, timeout=self.pause_s or 0.0001)
                if waited:
                    return
        finally:
            left.cancel()
            self.running -= 1

    async def _events(self) -> AsyncIterator[bytes]:
        if self.before is not None:
            yield self.before
        else:
            yield chunk({"role": "assistant", "content": ""})
            for word in self.words:
                yield chunk({"content": word})
            if self.ends:
                yield chunk(finish_reason="stop", system_fingerprint="r1")
                yield event({"id": "c", "choices": [], "usage": USAGE})
                yield DONE


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, str, Headers]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines if line)
    return method, path, {name.lower(): value.strip() for name, _, value in pairs}


async def _respond_json(writer: Writer, value: object) -> None:
    await _respond(writer, 200, json.dumps(value).encode(), "application/json", {})


def vector_of(text: str) -> "np.ndarray":
    """Its own direction for each text, not of unit length, as some servers send them."""
    digest = hashlib.shake_128(text.encode()).digest(DIMENSIONS)
    return 3 * np.frombuffer(digest, np.int8).astype(np.float32) + np.float32(0.5)


def encode(vector: "np.ndarray") -> str:
    """As OpenAI's clients ask for it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def share_of(question: str, text: str) -> float:
    """How many of the question's words a text has, from 0 to 1."""
    asked = set(question.lower().strip("?").split())
    return len(asked & set(text.lower().strip(".").split())) / len(asked)


async def _respond(
    writer: Writer,
    status: int,
    body: bytes,
    kind: str,
    headers: Headers,
    cut_at: int | None = None,
) -> None:
    lines = {
        "Content-Type": kind,
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body[:cut_at])
    await writer.drain()


@asynccontextmanager
async def running_openai_server(**settings: Any) -> AsyncIterator[OpenAiServer]:
    """A server on a free port of loopback."""
    speaking = OpenAiServer(**settings)
    server = await asyncio.start_server(speaking.serve, "127.0.0.1", 0, limit=1 << 24)
    speaking.port = server.sockets[0].getsockname()[1]
    try:
        yield speaking
    finally:
        server.close()
