"""One side of an echo, run by the interpreter of a throw-away environment: only grpcio is there.

`serve` prints its port and serves until its input ends; `call PORT SIDE_BY_SIDE SECONDS` prints
calls a second and the median latency as JSON.
"""

import asyncio
import json
import statistics
import sys
import time

import grpc
from google.protobuf.wrappers_pb2 import BytesValue

METHOD = "/bench.Echo/Say"
PAYLOAD = b"x" * 64
WARM_S = 0.3


async def _say(request: BytesValue, _context: object) -> BytesValue:
    return request


async def serve() -> None:
    """Echoes on a free port of loopback."""
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        _say,
        request_deserializer=BytesValue.FromString,
        response_serializer=BytesValue.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("bench.Echo", {"Say": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


async def call(port: int, side_by_side: int, seconds: float) -> dict[str, float]:
    """Calls for `seconds`, after a short warm-up."""
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        say = channel.unary_unary(
            METHOD,
            request_serializer=BytesValue.SerializeToString,
            response_deserializer=BytesValue.FromString,
        )

        async def worker(until: float) -> list[float]:
            took = []
            while (began := time.perf_counter()) < until:
                await say(BytesValue(value=PAYLOAD))
                took.append(time.perf_counter() - began)
            return took

        async def phase(phase_s: float) -> list[float]:
            until = time.perf_counter() + phase_s
            workers = await asyncio.gather(*(worker(until) for _ in range(side_by_side)))
            return [one for took in workers for one in took]

        await phase(WARM_S)
        took = await phase(seconds)
    return {"rate": len(took) / seconds, "p50_us": statistics.median(took) * 1e6}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve())
    else:
        answer = asyncio.run(call(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
        sys.stdout.write(json.dumps(answer))
