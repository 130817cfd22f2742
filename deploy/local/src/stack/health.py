"""Checks the gRPC health of a server once."""

from dataclasses import dataclass

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from chassis.rpc.health import PROGRESS_KEY, REASONS_KEY

_CHECK = "/grpc.health.v1.Health/Check"
_UNANSWERED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of a health check.

    Attributes:
        answered: True if the server responded.
        problem: why the server is not ready; empty if it is.
        progress: of the work that keeps it from being ready; see `chassis.rpc.health`.
    """

    answered: bool
    problem: str
    progress: int = 0


def check(address: str, timeout_s: float) -> Answer:
    """Checks the server at `address` on a new connection."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        method = channel.unary_unary(
            _CHECK,
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        try:
            answer, call = method.with_call(HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            code = error.code()
            return Answer(
                answered=code not in _UNANSWERED, problem=f"health check failed: {code.name}"
            )
        said = {key: str(value) for key, value in call.trailing_metadata() or ()}
    if answer.status == HealthCheckResponse.SERVING:
        return Answer(answered=True, problem="")
    progress = said.get(PROGRESS_KEY, "")
    return Answer(
        answered=True,
        problem=said.get(REASONS_KEY) or "health check says NOT_SERVING",
        progress=int(progress) if progress.isdecimal() else 0,
    )
