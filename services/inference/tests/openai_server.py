"""A server that speaks OpenAI's protocol, on a real socket, and fails as a test asks for.

It answers with the words that a test gives it, and writes bytes as they are, so that a stream can
be cut, stall, or break the protocol at any place.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Headers = dict[str, str]
Writer = asyncio.StreamWriter

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
        before: bytes written in place of the answer's events.
        pause_s: before each event.
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
        if self.status != 200:
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
        else:
            await _respond(writer, 404, b"{}", "application/json", {})

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


async def _respond(writer: Writer, status: int, body: bytes, kind: str, headers: Headers) -> None:
    lines = {
        "Content-Type": kind,
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body)
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
