"""Wraps every served method: span, status, deadline, identity.

The type stubs of `grpc.aio` do not match the runtime for interceptors, so this file and
`channel.py` use `Any`; other code does not need to.
"""

import asyncio
import inspect
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from typing_extensions import override

from chassis.base import metrics, telemetry
from chassis.base.errors import DeadlineError, InvalidInputError, OverloadedError, ServiceError
from chassis.identity import tokens as identity
from chassis.identity.revocations import OpenCall, Revocations
from chassis.rpc.gate import Gate
from chassis.rpc.health import Health
from chassis.rpc.limits import SERVER_OPTIONS, limit_streams
from chassis.rpc.status import domain, is_deadline_exceeded, make_status, to_status

log = logging.getLogger(__name__)

OPEN_CALLS_MAX = 1_024
# Calls that send a stream of responses mostly wait, and must not keep the others out.
OPEN_STREAMS_MAX = 3_072
CALL_MAX_S = 600.0
LINGER_S = 0.5

# The scopes of each method, by `package.Service/Method`; one of them is enough. The process does
# not start if a method of a listed service is missing.
Access = Mapping[str, frozenset[str]]
PUBLIC: Final = frozenset({"*"})

_STANDARD = ("grpc.health.v1.Health/", "grpc.reflection.v1alpha.ServerReflection/")
# Stands for every unknown method: a name sent by a client must not become a label or span name.
_OTHER = "_OTHER"
# Codes that are faults of the server (OpenTelemetry semantic conventions for RPC).
_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)

_deadline: ContextVar[float | None] = ContextVar("chassis_deadline", default=None)


def any_of(*scopes: str) -> frozenset[str]:
    """An access rule: the caller needs one of the scopes."""
    return frozenset(scopes)


def time_left_s() -> float | None:
    """Seconds until the current call ends, at least 0; None outside a call."""
    if (deadline := _deadline.get()) is None:
        return None
    return max(0.0, deadline - time.monotonic())


Body = Callable[[Any, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Method:
    """A served method; `body` runs its handler, unary or streaming."""

    name: str
    body: Body
    request_streaming: bool
    response_streaming: bool
    scopes: frozenset[str]
    standard: bool


class Edge(grpc.aio.ServerInterceptor):
    """Wraps every handler, from the outside in: span, status, deadline, identity.

    Raises:
        ValueError: a method requires a scope, but there is no gate to check it.
    """

    def __init__(self, service: str, access: Access, gate: Gate | None, tracer: Tracer) -> None:
        if gate is None and (guarded := [name for name in access if access[name] != PUBLIC]):
            raise ValueError(f"no gate before {', '.join(guarded)}")
        self._domain = domain(service)
        self._gate = gate
        self._access = {**access, _OTHER: PUBLIC}
        self._tracer = tracer
        self._open = Counter[bool]()
        self._served: dict[str, Any] = {}
        self._unknown = self._wrap(_OTHER, grpc.stream_stream_rpc_method_handler(self._refuse))

    @override
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        name: str = handler_call_details.method
        served = self._served.get(name)
        if served is None:
            if (handler := await continuation(handler_call_details)) is None:
                return self._unknown
            served = self._served[name] = self._wrap(name.removeprefix("/"), handler)
        return served

    def _wrap(self, name: str, handler: Any) -> Any:
        """A handler of the same kind; its unary sides are bytes.

        grpc.aio answers exceptions of serializers with UNKNOWN and their text, so they run inside
        the `try` of this class.
        """
        method = _Method(
            name=name,
            body=_make_body(handler),
            request_streaming=handler.request_streaming,
            response_streaming=handler.response_streaming,
            scopes=self._access.get(name, frozenset()),
            standard=name.startswith(_STANDARD),
        )
        serve = self._run_handler if method.standard else self._trace

        async def answer(request: Any, context: Any) -> Any:
            return await serve(method, request, context)

        decode = _make_decoder(handler.request_deserializer) if handler.request_streaming else None
        encode = handler.response_serializer if handler.response_streaming else None
        match handler.request_streaming, handler.response_streaming:
            case False, False:
                return grpc.unary_unary_rpc_method_handler(answer, decode, encode)
            case False, True:
                return grpc.unary_stream_rpc_method_handler(answer, decode, encode)
            case True, False:
                return grpc.stream_unary_rpc_method_handler(answer, decode, encode)
        return grpc.stream_stream_rpc_method_handler(answer, decode, encode)

    async def _trace(self, method: _Method, request: Any, context: Any) -> Any:
        """Records one SERVER span, a child of the caller's span, and one duration."""
        started, given_s = time.perf_counter(), context.time_remaining()
        parent = telemetry.extract(dict(context.invocation_metadata()))
        span = self._tracer.start_span(
            method.name,
            context=parent,
            kind=SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": method.name},
        )
        otel_context.attach(trace.set_span_in_context(span, parent))  # until the task ends
        code = "INTERNAL"
        try:
            result = await self._run_handler(method, request, context)
            code = _code_name(context)
        except (asyncio.CancelledError, grpc.aio.BaseError):
            late = is_deadline_exceeded(given_s, context.time_remaining())
            code = "DEADLINE_EXCEEDED" if late else "CANCELLED"
            raise
        else:
            return result
        finally:
            span.set_attribute("rpc.response.status_code", code)
            if code in _FAULTS:
                span.set_attribute("error.type", code)
                span.set_status(StatusCode.ERROR)
            span.end()
            metrics.RPC_SECONDS.labels(method.name, code).observe(time.perf_counter() - started)

    async def _run_handler(self, method: _Method, request: Any, context: Any) -> Any:
        """Runs the handler and converts its exceptions to a status."""
        try:
            return await self._run_limited(method, request, context)
        except ServiceError as error:
            trace.get_current_span().set_attribute("aquifer.error.reason", error.reason)
            status = to_status(error, self._domain)
        except grpc.aio.AbortError as sent:
            sent.__traceback__ = None  # see `_abort`
            return None
        except grpc.aio.BaseError:  # the connection is closed
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Something inside the call was cancelled, not the call; it needs a status.
            status = self._report_bug(method, error)
        except Exception as error:  # noqa: BLE001 (the edge of the process; `_report_bug` logs it)
            status = self._report_bug(method, error)
        await _abort(context, status, drain=method.request_streaming)
        return None

    def _report_bug(self, method: _Method, error: BaseException) -> Status:
        """INTERNAL with an incident id that is also in the log, without details."""
        incident = secrets.token_hex(8)
        trace.get_current_span().set_attribute("aquifer.incident", incident)
        log.error("rpc.failed", exc_info=error, extra={"method": method.name, "incident": incident})
        return make_status(
            grpc.StatusCode.INTERNAL,
            f"internal error; look for incident {incident} in the log",
            reason="INTERNAL",
            domain=self._domain,
            facts={"incident": incident},
        )

    async def _run_limited(self, method: _Method, request: Any, context: Any) -> Any:
        """Runs the body until its deadline, at most `CALL_MAX_S`, or until its key is revoked."""
        if method.standard:
            return await method.body(request, context)
        # A stream of requests holds content, whatever it sends.
        waits = method.response_streaming and not method.request_streaming
        limit = OPEN_STREAMS_MAX if waits else OPEN_CALLS_MAX
        if self._open[waits] >= limit:
            raise OverloadedError("CALLS_OPEN", "too many open calls; retry", limit=limit)
        remaining_s = context.time_remaining()
        limit_s = CALL_MAX_S if remaining_s is None else min(remaining_s, CALL_MAX_S)
        _deadline.set(time.monotonic() + limit_s)
        call: OpenCall | None = None
        self._open[waits] += 1
        try:
            async with asyncio.timeout(limit_s) as bound:
                if method.scopes == PUBLIC or self._gate is None:
                    return await method.body(request, context)
                call = await self._gate.admit(method.scopes, context, _make_end(bound))
                with telemetry.document_scope(identity.caller().tenant):
                    return await method.body(request, context)
        except TimeoutError:
            if not bound.expired():
                raise
            if call is not None and self._gate is not None:
                self._gate.check(call)
            raise DeadlineError(
                "DEADLINE_EXCEEDED", "the deadline of the call passed", limit_s=round(limit_s, 3)
            ) from None
        finally:
            self._open[waits] -= 1
            if call is not None and self._gate is not None:
                self._gate.leave(call)

    async def _refuse(self, _: Any, context: Any) -> None:
        status = make_status(
            grpc.StatusCode.UNIMPLEMENTED,
            "this server does not have the method",
            reason="METHOD_UNKNOWN",
            domain=self._domain,
            facts={},
        )
        await _abort(context, status, drain=True)


def _make_end(bound: asyncio.Timeout) -> Callable[[], None]:
    """A function that ends a call at once, like its deadline."""

    def end() -> None:
        if not bound.expired():
            bound.reschedule(asyncio.get_running_loop().time())

    return end


async def _abort(context: Any, status: Status, *, drain: bool) -> None:
    """Ends a call with a status.

    The call keeps the exception of `abort`. Its traceback is removed, because it would keep the
    call, and so a stream of STREAMS_PER_CONNECTION, until the next garbage collection.
    """
    if drain:
        await _drain(context)
    try:
        await context.abort_with_status(rpc_status.to_status(status))
    except grpc.aio.AbortError as sent:
        sent.__traceback__ = None


async def _drain(context: Any) -> None:
    """Reads what the client still sends before it is refused, for at most `LINGER_S`.

    A grpc.aio client that writes while its call ends sees INTERNAL instead (grpc issue 36066).
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            message = None
            while message is not grpc.aio.EOF:
                with suppress(InvalidInputError):
                    message = await context.read()


def _code_name(context: Any) -> str:
    code: grpc.StatusCode | None = context.code()
    return code.name if code else "OK"


def _make_body(handler: Any) -> Body:
    """The handler as one coroutine; the generator of a stream is closed when the call ends."""
    behaviour = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    decode = _make_decoder(handler.request_deserializer)
    encode = handler.response_serializer or bytes

    async def single(request: Any, context: Any) -> Any:
        if not handler.request_streaming:
            request = decode(request)
        return encode(await behaviour(request, context))

    async def stream(request: Any, context: Any) -> None:
        if not handler.request_streaming:
            request = decode(request)
        responses = behaviour(request, context)
        if inspect.isawaitable(responses):
            await responses  # the handler calls `context.write` itself
            return
        async with aclosing(responses):
            async for response in responses:
                await context.write(response)

    return stream if handler.response_streaming else single


def _make_decoder(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    def decode(sent: bytes) -> Any:
        try:
            return sent if deserialize is None else deserialize(sent)
        except DecodeError as error:
            raise InvalidInputError(
                "REQUEST_UNREADABLE",
                "the request is not a message of this method; check the client's proto version",
            ) from error

    return decode


def server_interceptors(
    service: str,
    verifier: identity.Verifier,
    revocations: Revocations,
    access: Access,
    *,
    tracer: Tracer | None = None,
) -> list[grpc.aio.ServerInterceptor]:
    """The interceptors of every server of `service`."""
    return [Edge(service, access, Gate(verifier, revocations), tracer or _tracer())]


def private_interceptors(
    service: str, access: Access, *, tracer: Tracer | None = None
) -> list[grpc.aio.ServerInterceptor]:
    """Interceptors of a server that only its own user can reach: every method is public."""
    return [Edge(service, access, None, tracer or _tracer())]


def _tracer() -> Tracer:
    return trace.get_tracer(telemetry.TRACER_NAME)


async def create_server(
    interceptors: list[grpc.aio.ServerInterceptor], access: Access
) -> tuple[grpc.aio.Server, Health]:
    """A server with health and reflection; the caller adds the services of `access`.

    A coroutine, because the server belongs to the running loop.

    Raises:
        ValueError: a service of `access` has a method without an access rule.
    """
    services = sorted({name.rpartition("/")[0] for name in access})
    if unprotected := [name for name in _methods(services) if name not in access]:
        raise ValueError(f"no access rule for {', '.join(unprotected)}")
    # Private servers have public methods only.
    mixed = PUBLIC in access.values() and any(rule != PUBLIC for rule in access.values())
    options = limit_streams(SERVER_OPTIONS) if mixed else SERVER_OPTIONS
    server = grpc.aio.server(interceptors=interceptors, options=options)
    checks = Health(services)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    standard = (HEALTH_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection([*services, *standard], server)
    return server, checks


def _methods(services: Iterable[str]) -> Iterable[str]:
    pool = descriptor_pool.Default()
    for service in services:
        for method in pool.FindServiceByName(service).methods:
            yield f"{service}/{method.name}"
