"""A server of OpenAI's protocol that writes tokens at a steady pace, in a process of its own.

`python -m tests.bench.paced_server TOKENS_A_SECOND TOKENS` writes its port to standard output, and
ends when its standard input is closed.
"""

import asyncio
import json
import sys

HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
MODELS = {"object": "list", "data": [{"id": "paced", "object": "model", "owned_by": "vllm"}]}


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: float, tokens: int
) -> None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if head.startswith("GET"):
            body = json.dumps(MODELS)
            writer.write(
                f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
        else:
            writer.write(HEAD.encode())
            await _write_tokens(writer, rate, tokens)
        await writer.drain()
    finally:
        writer.close()


async def _write_tokens(writer: asyncio.StreamWriter, rate: float, tokens: int) -> None:
    clock = asyncio.get_running_loop().time
    started = clock()
    for number in range(tokens):
        # The pace is that of the whole stream: a late token does not delay the next ones.
        await asyncio.sleep(started + number / rate - clock())
        writer.write(_event({"content": f" w{number}"}))
        await writer.drain()
    writer.write(_event({}, "stop") + b"data: [DONE]\n\n")


def _event(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return f"data: {json.dumps({'id': 'p', 'choices': [choice]})}\n\n".encode()


async def main(rate: float, tokens: int) -> None:
    """Serves until standard input is closed."""
    server = await asyncio.start_server(
        lambda reader, writer: _serve(reader, writer, rate, tokens), "127.0.0.1", 0
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), int(sys.argv[2])))
