"""Calls to other services, with traces, deadlines and credentials; failures are `ServiceError`s.

This wraps the channel instead of using `grpc.aio` client interceptors, which cost a task per call
and lose cancellations (opentelemetry-python-contrib 3271). The type stubs fit neither, so this file
and `server.py` use `Any`; other code does not need to.
"""

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self, TypeVar

import grpc
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from typing_extensions import override

from chassis.base import telemetry
from chassis.base.errors import (
    DeadlineError,
    ForbiddenError,
    ServiceError,
    UnauthenticatedError,
    UnavailableError,
)
from chassis.identity import tokens as identity
from chassis.rpc.limits import MESSAGE_MAX_BYTES, METADATA_MAX_BYTES
from chassis.rpc.server import time_left_s
from chassis.rpc.status import from_rpc_error

TIMEOUT_S = 10.0
# Reserved from the deadline of the current call, to answer it with a reason.
MARGIN_S = 0.05

Credentials = Callable[[], Awaitable[identity.Metadata]]
T = TypeVar("T")


def open_channel(
    address: str,
    *,
    service: str,
    credentials: Credentials = identity.forward_caller,
    retried: Collection[str] = (),
    tracer: Tracer | None = None,
) -> grpc.aio.Channel:
    """A channel to another service for generated stubs; open it in the running loop and close it.

    A unary method of a stub returns a coroutine, a stream an async iterator (see `use_stream`).
    Both raise `ServiceError`. The rest of the `grpc.aio.Call` interface is not available. `timeout`
    is by default the time left in the current call, or `TIMEOUT_S` outside a call.

    Args:
        address: `host:port`.
        service: name for errors: a failed call of `inference` is INFERENCE_UNAVAILABLE.
        credentials: `forward_caller` sends the caller's token, a `TokenSource` the token of this
            service, `send_no_credentials` none.
        retried: `package.Service/Method` of idempotent unary methods, tried up to 4 times within
            their deadline while the service is UNAVAILABLE.
        tracer: by default that of the process.
    """
    inner = grpc.aio.insecure_channel(address, options=_options(retried))
    return SiblingChannel(
        inner, service, address, credentials, tracer or trace.get_tracer(telemetry.TRACER_NAME)
    )


def _options(retried: Collection[str]) -> list[tuple[str, Any]]:
    names = [name.rpartition("/") for name in retried]
    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    methods = [{"service": service, "method": method} for service, _, method in names]
    config = {"methodConfig": [{"name": methods, "retryPolicy": policy}]} if methods else {}
    return [
        ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
        ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
        ("grpc.max_metadata_size", METADATA_MAX_BYTES),
        ("grpc.service_config", json.dumps(config)),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # Otherwise the pings of a long silent call stop after the second one.
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),  # otherwise all channels share one connection
    ]


@asynccontextmanager
async def use_stream(call: AsyncIterable[T]) -> AsyncIterator[AsyncIterator[T]]:
    """The responses of a stream, which is cancelled at the end of the block in any case.

    `async for` alone is not enough: after a `break` the service would keep producing.
    """
    messages = aiter(call)
    try:
        yield messages
    finally:
        await messages.aclose()  # type: ignore[attr-defined]


class SiblingChannel(grpc.aio.Channel):
    """See `open_channel`."""

    def __init__(
        self,
        inner: grpc.aio.Channel,
        peer: str,
        address: str,
        credentials: Credentials,
        tracer: Tracer,
    ) -> None:
        self._inner = inner
        self._peer = peer
        self._address = address
        self._credentials = credentials
        self._tracer = tracer

    @override
    def unary_unary(self, method: str, *codec: Any, **options: Any) -> Any:
        return self._await_reply(method, self._inner.unary_unary(method, *codec, **options))

    @override
    def stream_unary(self, method: str, *codec: Any, **options: Any) -> Any:
        return self._await_reply(method, self._inner.stream_unary(method, *codec, **options))

    @override
    def unary_stream(self, method: str, *codec: Any, **options: Any) -> Any:
        return self._iterate_replies(method, self._inner.unary_stream(method, *codec, **options))

    @override
    def stream_stream(self, method: str, *codec: Any, **options: Any) -> Any:
        return self._iterate_replies(method, self._inner.stream_stream(method, *codec, **options))

    def _await_reply(self, method: str, begin: Any) -> Any:
        async def call(request: Any, *, timeout: float | None = None, metadata: Any = ()) -> Any:  # noqa: ASYNC109
            with self._record(method) as span:
                sent = [*metadata, *await self._credentials(), *_trace_headers(span)]
                return await begin(request, timeout=_limit_timeout(timeout), metadata=sent)

        return call

    def _iterate_replies(self, method: str, begin: Any) -> Any:
        async def call(request: Any, *, timeout: float | None = None, metadata: Any = ()) -> Any:  # noqa: ASYNC109
            with self._record(method) as span:
                sent = [*metadata, *await self._credentials(), *_trace_headers(span)]
                stream = begin(request, timeout=_limit_timeout(timeout), metadata=sent)
                try:
                    async for message in stream:
                        yield message
                finally:
                    stream.cancel()

        return call

    @contextmanager
    def _record(self, method: str) -> Iterator[Span]:
        """Records one CLIENT span per call and converts its errors to `ServiceError`."""
        name = method.removeprefix("/")
        attributes = {
            "rpc.system.name": "grpc",
            "rpc.method": name,
            "server.address": self._address,
        }
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        code = "OK"
        try:
            yield span
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            if (meant := self._to_service_error(error)) is None:
                raise
            raise meant from error
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            raise
        except BaseException as error:
            code = type(error).__name__
            raise
        finally:
            span.set_attribute("rpc.response.status_code", code)
            if code != "OK":
                span.set_attribute("error.type", code)
                span.set_status(StatusCode.ERROR)
            span.end()

    def _to_service_error(self, error: grpc.aio.AioRpcError) -> ServiceError | None:
        meant = from_rpc_error(error, peer=self._peer)
        own = self._credentials not in (identity.forward_caller, identity.send_no_credentials)
        if own and isinstance(meant, UnauthenticatedError | ForbiddenError):
            # The credentials of this service were refused, not the caller's.
            return UnavailableError(
                "SERVICE_REFUSED",
                f"{self._peer} refused the credentials of this service",
                cause=meant.reason,
            )
        return meant

    @override
    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    @override
    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    @override
    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    @override
    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    @override
    async def __aenter__(self) -> Self:
        return self

    @override
    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _trace_headers(span: Span) -> list[tuple[str, str]]:
    carrier: dict[str, str] = {}
    telemetry.inject(carrier, trace.set_span_in_context(span, otel_context.Context()))
    return list(carrier.items())


def _limit_timeout(timeout_s: float | None) -> float:
    """The timeout of a call: as requested, but at most the time left in the current call.

    Raises:
        DeadlineError: no time is left, so the call is not made.
    """
    left_s = time_left_s()
    if left_s is None:
        return TIMEOUT_S if timeout_s is None else timeout_s
    left_s -= MARGIN_S
    if left_s <= 0:
        raise DeadlineError("DEADLINE_EXCEEDED", "no time is left to call another service")
    return left_s if timeout_s is None else min(timeout_s, left_s)
