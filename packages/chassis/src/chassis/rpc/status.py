"""`ServiceError` and gRPC status, each turned into the other: for who serves and for who calls."""

from collections.abc import Iterable, Mapping
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from chassis.base.errors import (
    AlreadyExistsError,
    ConflictError,
    DataLossError,
    DeadlineError,
    FailedPreconditionError,
    FieldViolation,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    ServiceError,
    UnauthenticatedError,
    UnavailableError,
)

# On the wire a deadline is rounded up, by a hundredth at most.
DEADLINE_ROUNDING: Final = 0.011

STATUS_OF: Final[Mapping[type[ServiceError], grpc.StatusCode]] = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    FailedPreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    ConflictError: grpc.StatusCode.ABORTED,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    DataLossError: grpc.StatusCode.DATA_LOSS,
}
_ERROR_OF = {code: kind for kind, code in STATUS_OF.items()}
# Without an ErrorInfo these come from the connection (a peer killed mid-call), not from the peer.
_CONNECTION_FAILURES = frozenset(
    {grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
)

CONFLICT_RETRY_S = 0.1
# Encoded, an error must fit a client's default limit of 8 KiB for all metadata: above it the
# client sees another error instead.
TEXT_MAX_BYTES, FACT_MAX_BYTES, FACTS_MAX, FIELDS_MAX = 400, 128, 8, 8


def domain(service: str) -> str:
    """`ErrorInfo.domain` of a service's errors."""
    return f"{service}.aquifer"


def to_status(error: ServiceError, domain: str) -> Status:
    """The error for the wire: one ErrorInfo, field violations, and when to retry if that helps.

    Long texts are cut: a trailer beyond the client's limit would hide the error.
    """
    details: list[Message] = []
    match error:
        case InvalidInputError(fields=fields) if fields:
            violations = [
                BadRequest.FieldViolation(field=_cut(one.field), description=_cut(one.description))
                for one in fields[:FIELDS_MAX]
            ]
            details.append(BadRequest(field_violations=violations))
        case _ if after_s := retry_after_s(error):
            details.append(_retry(after_s))
        case _:
            pass
    return make_status(
        code_of(error),
        error.detail,
        reason=error.reason,
        domain=domain,
        facts=error.facts,
        details=details,
    )


def code_of(error: ServiceError) -> grpc.StatusCode:
    """The gRPC status code of an error."""
    known = (STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)
    return next(known, grpc.StatusCode.INTERNAL)


def retry_after_s(error: ServiceError) -> float:
    """Seconds after which a retry may help; 0 where none does."""
    match error:
        case OverloadedError(retry_after_s=after_s) | UnavailableError(retry_after_s=after_s):
            return float(after_s)
        case ConflictError():
            return CONFLICT_RETRY_S
        case _:
            return 0.0


def make_status(
    code: grpc.StatusCode,
    message: str,
    *,
    reason: str,
    domain: str,
    facts: Mapping[str, str],
    details: Iterable[Message] = (),
) -> Status:
    """A status with its one ErrorInfo, then the other details."""
    few = {key: _cut(value) for key, value in list(facts.items())[:FACTS_MAX]}
    packed = []
    for detail in (ErrorInfo(reason=reason, domain=domain, metadata=few), *details):
        packed.append(Packed())
        packed[-1].Pack(detail)
    number: int = code.value[0]
    return Status(code=number, message=_cut(message, TEXT_MAX_BYTES), details=packed)


def _cut(text: str, most_bytes: int = FACT_MAX_BYTES) -> str:
    return text.encode(errors="replace")[:most_bytes].decode(errors="ignore")


def _retry(after_s: float) -> RetryInfo:
    delay = Duration()
    delay.FromMilliseconds(round(after_s * 1_000))
    return RetryInfo(retry_delay=delay)


def from_rpc_error(error: grpc.aio.AioRpcError, *, peer: str) -> ServiceError | None:
    """What a sibling's failure means here, with its reason, facts, fields and retry time.

    A connection that fails or tears is UnavailableError `<PEER>_UNAVAILABLE`.

    Returns:
        None for what is a bug (INTERNAL, a method it lacks, a message too big): nobody can act on
        it.
    """
    code, status = error.code(), _read_status(error)
    info, retry, fields = ErrorInfo(), RetryInfo(), BadRequest()
    for detail in status.details if status else ():
        for known in (info, retry, fields):
            detail.Unpack(known)
    if not info.reason and (code in _CONNECTION_FAILURES or code is grpc.StatusCode.UNAVAILABLE):
        return UnavailableError(f"{peer.upper()}_UNAVAILABLE", f"{peer} can not be reached")
    if not info.reason and code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None  # a message over the limit: a retry would not make it smaller
    kind = _ERROR_OF.get(code, UnavailableError if code is grpc.StatusCode.CANCELLED else None)
    if kind is None:
        return None
    found = kind(info.reason or code.name, error.details() or code.name)
    found.facts = dict(info.metadata)
    if isinstance(found, InvalidInputError):
        found.fields = tuple(
            FieldViolation(one.field, one.description) for one in fields.field_violations
        )
    elif isinstance(found, OverloadedError | UnavailableError) and retry.HasField("retry_delay"):
        found.retry_after_s = retry.retry_delay.ToMilliseconds() / 1_000
    return found


def _read_status(error: grpc.aio.AioRpcError) -> Status | None:
    try:
        found: Status | None = rpc_status.from_call(error)  # type: ignore[arg-type]
    except (ValueError, DecodeError):  # contradicts the plain status, or is no Status
        return None
    return found


def is_deadline_exceeded(given_s: float | None, left_s: float | None) -> bool:
    """Whether a call was cut off by its deadline.

    Args:
        given_s: seconds it had as the server saw it, None without a deadline.
        left_s: seconds the server still sees: the client's own clock ended it a little before.
    """
    if given_s is None or left_s is None:
        return False
    return left_s <= DEADLINE_ROUNDING * given_s
