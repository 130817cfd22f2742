"""Statuses as a real server sends them, and what a person and a machine see."""

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from aquifer_cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, from_rpc


def packed(message):
    detail = Any()
    detail.Pack(message)
    return detail


STATUSES = {
    "field": Status(
        code=Code.INVALID_ARGUMENT,
        message="metadata out of range",
        details=[
            packed(ErrorInfo(reason="METADATA_RANGE", domain="ingest.aquifer")),
            packed(
                BadRequest(
                    field_violations=[
                        BadRequest.FieldViolation(field="metadata", description="at most 32 pairs"),
                        BadRequest.FieldViolation(field="title", description="too long"),
                    ]
                )
            ),
        ],
    ),
    "same field": Status(
        code=Code.INVALID_ARGUMENT,
        message="send pages from 1 to 7",
        details=[
            packed(ErrorInfo(reason="PAGE_RANGE")),
            packed(
                BadRequest(
                    field_violations=[
                        BadRequest.FieldViolation(
                            field="first_page", description="send pages from 1 to 7"
                        )
                    ]
                )
            ),
        ],
    ),
    "retry": Status(
        code=Code.RESOURCE_EXHAUSTED,
        message="too many calls are open",
        details=[
            packed(RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))),
            packed(ErrorInfo(reason="CALLS_OPEN")),
        ],
    ),
    "known": Status(
        code=Code.NOT_FOUND,
        message="no such document",
        details=[packed(ErrorInfo(reason="DOCUMENT_UNKNOWN"))],
    ),
    "away": Status(
        code=Code.UNAVAILABLE,
        message="the vector store is away",
        details=[packed(ErrorInfo(reason="VECTORS_UNAVAILABLE"))],
    ),
    "foreign": Status(code=Code.ABORTED, message="", details=[packed(StringValue(value="?"))]),
}


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(
            self.refuse,
            request_deserializer=StringValue.FromString,
            response_serializer=StringValue.SerializeToString,
        )

    async def refuse(self, request, context):
        if request.value == "plain":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "a proxy said no")
        await context.abort_with_status(rpc_status.to_status(STATUSES[request.value]))


async def failure_of(kind, address=None):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address or f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(
                "/any/Method", StringValue.SerializeToString, StringValue.FromString
            )
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await call(StringValue(value=kind), timeout=10)
    finally:
        await server.stop(0)
    return from_rpc(failure.value)


async def test_violated_fields_are_named():
    error = await failure_of("field")
    assert error.reason == "METADATA_RANGE"
    assert error.detail == "metadata out of range; metadata: at most 32 pairs; title: too long"
    assert error.exit_code == EXIT_FAILED


async def test_a_field_that_says_what_the_message_says_is_not_repeated():
    assert (await failure_of("same field")).detail == "send pages from 1 to 7"


async def test_advice_to_try_again_is_passed_on():
    error = await failure_of("retry")
    assert (error.reason, error.retry_s, error.hint) == ("CALLS_OPEN", 1.5, "try again in 1.5 s")


async def test_a_reason_with_a_known_way_out_tells_it():
    error = await failure_of("known")
    assert error.as_json()["error"] == {
        "reason": "DOCUMENT_UNKNOWN",
        "detail": "no such document",
        "hint": "`aquifer documents` lists the existing documents",
    }


async def test_a_part_that_is_away_has_its_own_exit_code():
    error = await failure_of("away")
    assert (error.reason, error.exit_code) == ("VECTORS_UNAVAILABLE", EXIT_UNAVAILABLE)
    assert "aquifer status" in error.hint


@pytest.mark.parametrize(
    ("kind", "reason", "detail"),
    [
        ("foreign", "ABORTED", "aborted"),
        ("plain", "PERMISSION_DENIED", "a proxy said no"),
    ],
)
async def test_a_status_without_a_reason_is_told_by_its_code(kind, reason, detail):
    error = await failure_of(kind)
    assert (error.reason, error.detail) == (reason, detail)


async def test_a_port_nobody_listens_on_is_told_by_its_address():
    error = await failure_of("any", address="127.0.0.1:9")
    assert (error.reason, error.detail) == ("UNAVAILABLE", "no server answers at 127.0.0.1:9")
    assert error.exit_code == EXIT_UNAVAILABLE
