"""What a client sees of a server: statuses, deadlines, cancellation, spans."""

import asyncio
import gc
import itertools
import logging
import urllib.parse

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from chassis.base import errors, metrics
from chassis.base.errors import FieldViolation, InvalidInputError, OverloadedError, ServiceError
from chassis.rpc import limits, status
from chassis.rpc import server as rpc

KINDS = list(status.STATUS_OF)
RETRIED = {"OverloadedError", "UnavailableError", "ConflictError"}


def details(rich):
    found = {}
    for packed in rich.details:
        for kind in (ErrorInfo, RetryInfo, BadRequest):
            if packed.Is(kind.DESCRIPTOR):
                assert kind not in found, "at most one detail of a type"
                found[kind] = kind.FromString(packed.value)
    return found


def raising(error):
    async def does():
        raise error

    return does


def test_every_error_class_has_a_status_of_its_own():
    declared = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    kinds = {kind for kind in declared if issubclass(kind, ServiceError)} - {ServiceError}
    assert set(status.STATUS_OF) == kinds
    assert len(set(status.STATUS_OF.values())) == len(status.STATUS_OF)


@pytest.mark.parametrize("kind", KINDS)
async def test_error_reaches_the_client_whole(edge, arity, kind):
    edge.echo.does = raising(kind("SOME_REASON", "what happened", limit=7))
    code, rich = await edge.failure(edge.call(await edge.plain(), arity, metadata=edge.bearer()))
    found = details(rich)
    assert code == status.STATUS_OF[kind].name
    assert rich.message == "what happened"
    info = ErrorInfo(reason="SOME_REASON", domain="echo.aquifer", metadata={"limit": "7"})
    assert found[ErrorInfo] == info
    assert (RetryInfo in found) == (kind.__name__ in RETRIED)


async def test_field_violations_and_retry_time_are_carried(edge):
    channel = await edge.plain()
    fields = [FieldViolation("page_size", "1 to 1000")]
    edge.echo.does = raising(InvalidInputError("FIELDS", "bad fields", fields=fields))
    _, rich = await edge.failure(edge.call(channel, "Unary", metadata=edge.bearer()))
    [violation] = details(rich)[BadRequest].field_violations
    assert (violation.field, violation.description) == ("page_size", "1 to 1000")
    edge.echo.does = raising(OverloadedError("BUSY", "later", retry_after_s=2.5))
    _, rich = await edge.failure(edge.call(channel, "Unary", metadata=edge.bearer()))
    assert details(rich)[RetryInfo].retry_delay.ToMilliseconds() == 2_500


async def test_a_huge_error_still_arrives_as_itself(edge):
    facts = {f"fact_{n}": "ä" * 5_000 for n in range(30)}
    fields = [FieldViolation("f" * 900, "ä" * 9_000)] * 50
    edge.echo.does = raising(InvalidInputError("MUCH", "𝄞" * 50_000, fields=fields, **facts))
    code, rich = await edge.failure(edge.call(await edge.plain(), "Unary", metadata=edge.bearer()))
    assert code == "INVALID_ARGUMENT"
    assert details(rich)[ErrorInfo].reason == "MUCH"
    size = rich.ByteSize() * 4 / 3 + len(urllib.parse.quote(rich.message))
    assert size < 7.5 * 1024


async def test_a_subclass_of_a_service_error_keeps_its_status(edge):
    class QuotaError(OverloadedError):
        pass

    edge.echo.does = raising(QuotaError("QUOTA", "used up"))
    code, _ = await edge.failure(edge.call(await edge.plain(), "Unary", metadata=edge.bearer()))
    assert code == "RESOURCE_EXHAUSTED"


async def test_a_service_error_without_a_status_of_its_own_is_internal(edge):
    class OddError(ServiceError):
        pass

    edge.echo.does = raising(OddError("ODD", "a lone \ud800 surrogate", name="\udfff"))
    code, rich = await edge.failure(edge.call(await edge.plain(), "Unary", metadata=edge.bearer()))
    assert (code, details(rich)[ErrorInfo].reason) == ("INTERNAL", "ODD")


async def test_nothing_of_an_unknown_failure_leaks(edge, arity, caplog):
    edge.echo.does = raising(ValueError("secret of the document"))
    code, rich = await edge.failure(edge.call(await edge.plain(), arity, metadata=edge.bearer()))
    info = details(rich)[ErrorInfo]
    assert code == "INTERNAL"
    assert info.reason == "INTERNAL"
    assert b"secret" not in rich.SerializeToString()
    assert b"ValueError" not in rich.SerializeToString()
    [record] = [r for r in caplog.records if r.message == "rpc.failed"]
    assert record.incident == info.metadata["incident"]
    assert "secret of the document" in str(record.exc_info[1])


@pytest.mark.parametrize("method", ["Unary", "Upload"])
async def test_a_wrong_answer_of_the_handler_is_internal(edge, method):
    async def does():
        return "not a message"

    edge.echo.does = does
    code, rich = await edge.failure(edge.call(await edge.plain(), method, metadata=edge.bearer()))
    assert (code, details(rich)[ErrorInfo].reason) == ("INTERNAL", "INTERNAL")


async def test_something_cancelled_inside_is_answered(edge, arity):
    edge.echo.does = raising(asyncio.CancelledError())
    code, rich = await edge.failure(edge.call(await edge.plain(), arity, metadata=edge.bearer()))
    assert (code, details(rich)[ErrorInfo].reason) == ("INTERNAL", "INTERNAL")


@pytest.mark.parametrize("sent", [b"\xff", b"\x0a\x7fshort", b"\x0a\x01\xff"])
async def test_bytes_that_are_no_message_are_the_callers_fault(edge, arity, sent):
    channel = await edge.plain()
    path = f"/chassis.tests.v1.EchoService/{arity}"

    async def requests():
        yield sent

    options = {"metadata": edge.bearer(), "timeout": 20.0}
    match arity:
        case "Unary":
            answer = channel.unary_unary(path)(sent, **options)
        case "Upload":
            answer = channel.stream_unary(path)(requests(), **options)
        case "Download":
            answer = anext(aiter(channel.unary_stream(path)(sent, **options)))
        case _:
            answer = anext(aiter(channel.stream_stream(path)(requests(), **options)))
    code, rich = await edge.failure(answer)
    assert (code, details(rich)[ErrorInfo].reason) == ("INVALID_ARGUMENT", "REQUEST_UNREADABLE")


async def test_an_unknown_method_is_unimplemented_and_remembered_nowhere(edge):
    channel = await edge.plain()
    for name in ("/chassis.tests.v1.EchoService/Nope", "/no.Such/Thing"):
        code, rich = await edge.failure(channel.unary_unary(name)(b"", timeout=20))
        assert (code, details(rich)[ErrorInfo].reason) == ("UNIMPLEMENTED", "METHOD_UNKNOWN")
    assert {s.name for s in edge.spans.get_finished_spans()} == {"_OTHER"}


async def test_a_method_without_a_rule_stops_the_start(edge):
    with pytest.raises(ValueError, match=r"EchoService/Open"):
        await rpc.create_server([], {"chassis.tests.v1.EchoService/Unary": rpc.any_of("echo")})


def test_a_server_without_a_gate_has_public_methods_alone():
    rpc.private_interceptors("echo", {"chassis.tests.v1.EchoService/Unary": rpc.PUBLIC})
    with pytest.raises(ValueError, match=r"EchoService/Unary"):
        rpc.private_interceptors("echo", {"chassis.tests.v1.EchoService/Unary": rpc.any_of("echo")})


@pytest.mark.parametrize("timeout_s", [0.9, 1.3])  # above a second the wire rounds it up
async def test_a_call_that_outlives_its_deadline_is_ended_as_such(edge, arity, timeout_s):
    ended = asyncio.Event()

    async def does():
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    edge.echo.does = does
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await edge.call(await edge.plain(), arity, metadata=edge.bearer(), timeout=timeout_s)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(ended.wait(), 10)
    span = (await edge.finished_spans())["SERVER"]
    assert span.attributes["rpc.response.status_code"] == "DEADLINE_EXCEEDED"
    assert not span.status.is_ok


async def test_a_call_without_a_deadline_is_bounded_too(edge, arity, monkeypatch):
    monkeypatch.setattr(rpc, "CALL_MAX_S", 0.2)
    edge.echo.does = lambda: asyncio.sleep(30)
    code, rich = await edge.failure(
        edge.call(await edge.plain(), arity, metadata=edge.bearer(), timeout=None)
    )
    assert (code, details(rich)[ErrorInfo].reason) == ("DEADLINE_EXCEEDED",) * 2


async def test_a_client_that_leaves_cancels_the_handler(edge, arity):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def does():
        begun.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    edge.echo.does = does
    call = asyncio.ensure_future(edge.call(await edge.plain(), arity, metadata=edge.bearer()))
    await asyncio.wait_for(begun.wait(), 10)
    call.cancel()
    await asyncio.wait_for(ended.wait(), 10)
    span = (await edge.finished_spans())["SERVER"]
    assert span.attributes["rpc.response.status_code"] == "CANCELLED"
    assert span.status.is_unset


async def test_too_many_open_calls_are_shed(edge, monkeypatch):
    monkeypatch.setattr(rpc, "OPEN_CALLS_MAX", 1)
    release = asyncio.Event()

    async def does():
        await release.wait()

    edge.echo.does = does
    channel = await edge.plain()
    first = asyncio.ensure_future(edge.call(channel, "Unary", metadata=edge.bearer()))
    while not edge.echo.calls:
        await asyncio.sleep(0.01)
    code, rich = await edge.failure(edge.call(channel, "Unary", metadata=edge.bearer()))
    assert (code, details(rich)[ErrorInfo].reason) == ("RESOURCE_EXHAUSTED", "CALLS_OPEN")
    release.set()
    assert await first == "a b"
    assert await edge.call(channel, "Unary", metadata=edge.bearer()) == "a b"


async def test_open_streams_do_not_keep_other_calls_out(edge, monkeypatch):
    monkeypatch.setattr(rpc, "OPEN_CALLS_MAX", 1)
    monkeypatch.setattr(rpc, "OPEN_STREAMS_MAX", 2)
    release = asyncio.Event()

    async def does():
        if edge.echo.calls <= 2:
            await release.wait()

    edge.echo.does = does
    channel = await edge.plain()
    streams = []
    for number in (1, 2):
        call = edge.call(channel, "Download", metadata=edge.bearer())
        streams.append(asyncio.ensure_future(call))
        while edge.echo.calls < number:
            await asyncio.sleep(0.01)
    _, rich = await edge.failure(edge.call(channel, "Download", metadata=edge.bearer()))
    assert details(rich)[ErrorInfo].reason == "CALLS_OPEN"
    for name in ("Unary", "Upload", "Chat"):
        assert await edge.call(channel, name, metadata=edge.bearer()) == "a b"
    release.set()
    assert await asyncio.gather(*streams) == ["a b", "a b"]


async def test_a_span_is_the_child_of_the_callers_and_tells_the_status(edge, arity):
    parent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    edge.echo.does = raising(errors.NotFoundError("DOCUMENT_UNKNOWN", "none"))
    await edge.failure(edge.call(await edge.plain(), arity, metadata=[*edge.bearer(), parent]))
    span = (await edge.finished_spans())["SERVER"]
    assert span.name == f"chassis.tests.v1.EchoService/{arity}"
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert span.attributes["aquifer.error.reason"] == "DOCUMENT_UNKNOWN"
    assert span.attributes["tenant.id"] == "acme"
    assert span.status.is_unset, "an answer, not a fault of the server"


async def test_spans_inside_a_handler_are_children_with_the_tenant(edge):
    async def does():
        with edge.tracer.start_as_current_span("work"):
            logging.getLogger("test").info("work.done")

    edge.echo.does = does
    await edge.call(await edge.plain(), "Unary", metadata=edge.bearer())
    spans = await edge.finished_spans()
    assert spans["INTERNAL"].parent.span_id == spans["SERVER"].context.span_id
    assert spans["INTERNAL"].attributes["tenant.id"] == "acme"


async def test_duration_is_counted_by_method_and_code(edge):
    labels = {"method": "chassis.tests.v1.EchoService/Chat", "code": "ABORTED"}
    name = "aquifer_rpc_duration_seconds_count"
    before = metrics.REGISTRY.get_sample_value(name, labels) or 0
    edge.echo.does = raising(errors.ConflictError("LOST", "someone else won"))
    await edge.failure(edge.call(await edge.plain(), "Chat", metadata=edge.bearer()))
    await edge.finished_spans()
    assert metrics.REGISTRY.get_sample_value(name, labels) == before + 1


async def test_health_and_reflection_need_no_token(edge):
    channel = await edge.plain()
    health = health_pb2_grpc.HealthStub(channel)
    ask = health_pb2.HealthCheckRequest(service="chassis.tests.v1.EchoService")
    closed, serving = (
        health_pb2.HealthCheckResponse.NOT_SERVING,
        health_pb2.HealthCheckResponse.SERVING,
    )
    assert (await health.Check(ask, timeout=20)).status == closed
    watch = health.Watch(ask, timeout=30)
    leaving = health.Watch(ask, timeout=30)
    assert (await watch.read()).status == (await leaving.read()).status == closed
    leaving.cancel()
    await edge.health.set(ask.service, serving)
    assert (await watch.read()).status == serving
    assert (await health.Check(ask, timeout=20)).status == serving
    await edge.health.enter_graceful_shutdown()
    assert (await watch.read()).status == closed
    assert await watch.read() is grpc.aio.EOF, "a watcher does not hold up the drain"
    code, rich = await edge.failure(
        health.Check(health_pb2.HealthCheckRequest(service="none"), timeout=20)
    )
    assert (code, details(rich)[ErrorInfo].reason) == ("NOT_FOUND", "SERVICE_UNKNOWN")
    assert not edge.spans.get_finished_spans(), "probes are not traced"
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    listing = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = await anext(aiter(reflection.ServerReflectionInfo(iter([listing]), timeout=20)))
    names = {service.name for service in answer.list_services_response.service}
    assert names == {
        "chassis.tests.v1.EchoService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_a_stream_nobody_reads_is_closed_with_its_call(edge):
    edge.echo.parts = lambda text: itertools.repeat("x" * 100_000)
    channel = await edge.plain()
    call = edge.stub(channel, "Download")(StringValue(), metadata=edge.bearer(), timeout=60)
    await call.read()
    sent = 0
    while sent != edge.echo.sent:
        sent = edge.echo.sent
        assert sent < 1_000, "flow control holds the handler back"
        await asyncio.sleep(0.2)
    call.cancel()
    await asyncio.wait_for(edge.echo.closed.wait(), 10)
    assert edge.echo.closed_inside_call, "not left to the garbage collector"


@pytest.mark.parametrize("method", ["Upload", "Chat"])
async def test_a_client_refused_while_it_still_sends_learns_why(edge, method, monkeypatch):
    monkeypatch.setattr(rpc, "LINGER_S", 15.0)  # a busy machine reads slowly

    async def requests():
        for _ in range(200):
            yield StringValue(value="x" * 65_536)

    channel = await edge.plain()
    for _ in range(5):
        call = edge.stub(channel, method)(requests(), timeout=20)
        answer = call if method == "Upload" else anext(aiter(call))
        code, rich = await edge.failure(answer)
        assert (code, details(rich)[ErrorInfo].reason) == ("UNAUTHENTICATED", "TOKEN_MISSING")


async def test_a_client_that_never_stops_sending_is_refused_all_the_same(edge, monkeypatch):
    monkeypatch.setattr(rpc, "LINGER_S", 0.1)
    stop = asyncio.Event()

    async def requests():
        yield StringValue(value="x")
        await stop.wait()

    call = edge.stub(await edge.plain(), "Upload")(requests(), timeout=30)
    code, _ = await asyncio.wait_for(edge.failure(call), 10)
    assert code == "UNAUTHENTICATED"
    stop.set()


async def test_failed_calls_give_their_streams_back_at_once(edge, arity):
    """Else a client's errors would use up its connection until the garbage collector comes by."""

    async def does():
        raise errors.NotFoundError("NONE", "none")

    edge.echo.does = does
    channel = await edge.plain()
    gc.collect()
    gc.disable()
    try:
        for _ in range(limits.STREAMS_PER_CONNECTION + 50):
            code, _ = await edge.failure(edge.call(channel, arity, metadata=edge.bearer()))
            assert code == "NOT_FOUND"
    finally:
        gc.enable()


async def test_a_connection_to_a_server_with_public_methods_has_few_calls_open(edge):
    """Calls without a token cost time before they are refused, and others wait for them."""
    most = limits.STREAMS_PER_OPEN_CONNECTION
    go_on = asyncio.Event()

    async def does():
        await go_on.wait()

    async def until(number):
        async with asyncio.timeout(20):
            while edge.echo.calls < number:
                await asyncio.sleep(0.01)

    edge.echo.does = does
    greedy, other = await edge.plain(), await edge.open_channel()
    calls = [asyncio.create_task(edge.call(greedy, "Open")) for _ in range(most + 8)]
    await until(most)
    await asyncio.sleep(0.2)
    assert edge.echo.calls == most
    one_more = asyncio.create_task(edge.call(other, "Open"))
    await until(most + 1)
    go_on.set()
    assert await one_more == "a b"
    # The transport refuses the others, or lets them wait, without the service.
    refused = [e for e in await asyncio.gather(*calls, return_exceptions=True) if e != "a b"]
    assert {error.code() for error in refused} <= {grpc.StatusCode.UNAVAILABLE}


async def test_a_message_beyond_the_limit_ends_only_its_own_call(edge, arity):
    channel = await edge.plain()
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await edge.call(
            channel, arity, "x" * (limits.MESSAGE_MAX_BYTES + 1), metadata=edge.bearer()
        )
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await edge.call(channel, arity, metadata=edge.bearer()) == "a b"
