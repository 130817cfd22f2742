"""What a call to a sibling carries, how it ends, and what its failure becomes."""

import asyncio
import itertools
import time

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from chassis.base import errors
from chassis.base.errors import DeadlineError, FieldViolation, InvalidInputError, UnavailableError
from chassis.identity import tokens as identity
from chassis.rpc import channel as channels
from chassis.rpc import limits, status
from chassis.rpc import server as rpc
from chassis.rpc.channel import use_stream

KINDS = list(status.STATUS_OF)


def raising(error):
    async def does():
        raise error

    return does


@pytest.mark.parametrize("kind", KINDS)
async def test_a_siblings_error_is_the_same_error_here(edge, arity, kind):
    edge.echo.does = raising(kind("SOME_REASON", "what happened", reason_of="x", detail_of=7))
    with pytest.raises(kind) as failed:
        await edge.call(await edge.open_channel(), arity, metadata=edge.bearer())
    assert type(failed.value) is kind
    assert (failed.value.reason, failed.value.detail) == ("SOME_REASON", "what happened")
    assert failed.value.facts == {"reason_of": "x", "detail_of": "7"}


async def test_fields_and_retry_time_survive(edge):
    sibling = await edge.open_channel()
    fields = (FieldViolation("name", "too long"),)
    edge.echo.does = raising(InvalidInputError("FIELDS", "bad", fields=fields))
    with pytest.raises(InvalidInputError) as failed:
        await edge.call(sibling, "Unary", metadata=edge.bearer())
    assert failed.value.fields == fields
    edge.echo.does = raising(UnavailableError("DOWN", "away", retry_after_s=4.5))
    with pytest.raises(UnavailableError) as away:
        await edge.call(sibling, "Unary", metadata=edge.bearer())
    assert away.value.retry_after_s == 4.5


async def test_a_siblings_bug_is_not_dressed_up_as_anything(edge, arity):
    edge.echo.does = raising(ValueError("secret"))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await edge.call(await edge.open_channel(), arity, metadata=edge.bearer())
    assert failed.value.code() is grpc.StatusCode.INTERNAL


async def test_a_sibling_that_is_away_is_unavailable(edge, arity):
    sibling = await edge.open_channel()
    await edge.server.stop(0)
    with pytest.raises(UnavailableError) as failed:
        await edge.call(sibling, arity, metadata=edge.bearer())
    assert failed.value.reason == "ECHO_UNAVAILABLE"


async def test_a_sibling_that_dies_meanwhile_is_unavailable(edge, arity):
    edge.echo.does = lambda: asyncio.sleep(30)
    sibling = await edge.open_channel()
    call = asyncio.ensure_future(edge.call(sibling, arity, metadata=edge.bearer()))
    while not edge.echo.calls:
        await asyncio.sleep(0.01)
    await edge.server.stop(0)
    with pytest.raises(UnavailableError) as failed:
        await asyncio.wait_for(call, 10)
    assert failed.value.reason == "ECHO_UNAVAILABLE"


@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "CANCELLED"])
async def test_a_torn_connection_is_not_mistaken_for_a_bug_of_the_sibling(edge, code):
    """Its own bugs carry an ErrorInfo; what a dying peer's transport makes up does not."""

    async def does():
        await edge.echo.context.abort(grpc.StatusCode[code], "Stream removed")

    edge.echo.does = does
    with pytest.raises(UnavailableError) as failed:
        await edge.call(await edge.open_channel(), "Unary", metadata=edge.bearer())
    assert failed.value.reason == "ECHO_UNAVAILABLE"


async def test_a_message_too_big_for_the_sibling_is_not_retryable(edge):
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await edge.call(
            await edge.open_channel(),
            "Unary",
            "x" * (limits.MESSAGE_MAX_BYTES + 1),
            metadata=edge.bearer(),
        )
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_listed_method_is_tried_again_while_the_sibling_is_unavailable(edge):
    method = "chassis.tests.v1.EchoService/Unary"

    async def does():
        if edge.echo.calls < 3:
            raise UnavailableError("NOT_YET", "away")

    edge.echo.does = does
    patient = await edge.open_channel(retried=[method])
    assert await edge.call(patient, "Unary", metadata=edge.bearer()) == "a b"
    assert edge.echo.calls == 3
    edge.echo.calls = 0
    with pytest.raises(UnavailableError):
        await edge.call(await edge.open_channel(), "Unary", metadata=edge.bearer())
    assert edge.echo.calls == 1


async def test_a_proxy_of_the_environment_is_not_used_between_services(edge, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    sibling = await edge.open_channel()
    assert await edge.call(sibling, "Unary", metadata=edge.bearer()) == "a b"


async def test_a_call_without_a_deadline_gets_one(edge, arity, monkeypatch):
    monkeypatch.setattr(channels, "TIMEOUT_S", 0.2)
    edge.echo.does = lambda: asyncio.sleep(30)
    with pytest.raises(DeadlineError) as failed:
        await edge.call(await edge.open_channel(), arity, metadata=edge.bearer(), timeout=None)
    assert failed.value.reason == "DEADLINE_EXCEEDED"


async def test_the_deadline_of_the_first_call_is_the_deadline_of_all(edge, arity):
    """Unary is asked with 1.5 s and asks the sibling, which never ends, with 60 s."""
    sibling, plain = await edge.open_channel(), await edge.plain()
    await sibling.channel_ready()
    seen = []

    async def does():
        if edge.echo.calls == 1:
            await edge.call(sibling, arity, timeout=60.0)
        seen.append(edge.echo.context.time_remaining())
        await asyncio.sleep(30)

    edge.echo.does = does
    started = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await edge.call(plain, "Unary", metadata=edge.bearer(), timeout=1.5)
    assert time.monotonic() - started < 10
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "AioRpcError" not in failed.value.details()
    [inner] = seen
    assert inner <= 1.5 - channels.MARGIN_S + 0.01  # the wire rounds up


async def test_no_time_left_is_said_without_calling(edge):
    sibling = await edge.open_channel()
    rpc._deadline.set(time.monotonic() + channels.MARGIN_S / 2)
    with pytest.raises(DeadlineError):
        await edge.call(sibling, "Unary", metadata=edge.bearer())
    assert not edge.echo.calls


async def test_the_callers_token_is_passed_on_and_the_trace_goes_on(edge, arity):
    sibling = await edge.open_channel()
    callers = []

    async def does():
        callers.append(identity.caller())
        if len(callers) == 1:
            await edge.call(sibling, arity)

    edge.echo.does = does
    bearer = edge.bearer(sub="user:eve", tenant="globex")
    await edge.call(await edge.plain(), "Unary", metadata=bearer)
    assert callers[0] == callers[1]
    assert callers[1].principal == "user:eve"
    spans = edge.spans.get_finished_spans()
    while len(spans) < 3:
        await asyncio.sleep(0.02)
        spans = edge.spans.get_finished_spans()
    by_id = {span.context.span_id: span for span in spans}
    [client] = [span for span in spans if span.kind.name == "CLIENT"]
    [inner] = [
        span for span in spans if span.parent and span.parent.span_id == client.context.span_id
    ]
    outer = by_id[client.parent.span_id]
    assert outer.parent is None
    assert {span.context.trace_id for span in spans} == {outer.context.trace_id}
    assert {span.attributes["tenant.id"] for span in spans} == {"globex"}
    assert inner.attributes["rpc.response.status_code"] == "OK"
    assert client.attributes["server.address"] == edge.address


@pytest.mark.parametrize("method", ["Download", "Chat"])
async def test_a_stream_left_early_is_cancelled(edge, method):
    edge.echo.parts = lambda text: itertools.repeat("x" * 1_000)
    edge.echo.does = lambda: asyncio.sleep(30)
    sibling = await edge.open_channel()

    async def requests():
        yield StringValue(value="x")

    request = requests() if method == "Chat" else StringValue(value="x")
    call = edge.stub(sibling, method)(request, metadata=edge.bearer(), timeout=20)
    async with use_stream(call) as messages:
        async for _ in messages:
            break
    span = (await edge.finished_spans())["SERVER"]
    assert span.attributes["rpc.response.status_code"] == "CANCELLED"
    client = (await edge.finished_spans())["CLIENT"]
    assert client.attributes["rpc.response.status_code"] == "CANCELLED"
    assert span.parent.span_id == client.context.span_id


async def test_a_stream_left_by_break_alone_is_cancelled_soon(edge):
    edge.echo.parts = lambda text: itertools.repeat("x" * 1_000)
    call = edge.stub(await edge.open_channel(), "Download")
    async for _ in call(StringValue(value="x"), metadata=edge.bearer(), timeout=20):
        break
    assert (await edge.finished_spans())["CLIENT"].attributes[
        "rpc.response.status_code"
    ] == "CANCELLED"


async def test_cancelling_the_caller_cancels_the_call(edge, arity):
    edge.echo.does = lambda: asyncio.sleep(30)
    call = asyncio.ensure_future(
        edge.call(await edge.open_channel(), arity, metadata=edge.bearer(), timeout=20)
    )
    while not edge.echo.calls:
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    spans = await edge.finished_spans()
    for kind in ("SERVER", "CLIENT"):
        assert spans[kind].attributes["rpc.response.status_code"] == "CANCELLED"


async def test_failed_calls_are_errors_in_the_trace(edge, arity):
    edge.echo.does = raising(errors.NotFoundError("NONE", "none"))
    with pytest.raises(errors.NotFoundError):
        await edge.call(await edge.open_channel(), arity, metadata=edge.bearer())
    client = (await edge.finished_spans())["CLIENT"]
    assert client.attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert not client.status.is_ok


async def test_a_status_that_contradicts_itself_is_read_plainly(edge):
    """A proxy may change the code and leave the details; the code wins."""

    async def does():
        context = edge.echo.context
        rich = status.to_status(errors.NotFoundError("NONE", "none"), "echo.aquifer")
        trailer = (("grpc-status-details-bin", rich.SerializeToString()),)
        await context.abort(grpc.StatusCode.ABORTED, "other words", trailer)

    edge.echo.does = does
    with pytest.raises(errors.ConflictError) as failed:
        await edge.call(await edge.open_channel(), "Unary", metadata=edge.bearer())
    assert (failed.value.reason, failed.value.detail) == ("ABORTED", "other words")
