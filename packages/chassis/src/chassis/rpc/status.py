"""Converts `ServiceError` to gRPC status for servers, and back for clients."""

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

# On the wire a deadline is rounded up, by one percent at most.
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
# Without an ErrorInfo these come from a broken connection, not from the other process.
_CONNECTION_FAILURES = frozenset(
    {grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
)

CONFLICT_RETRY_S = 0.1
# An encoded error must fit a client's default limit of 8 KiB for all metadata; above it the client
# sees another error instead.
TEXT_MAX_BYTES, FACT_MAX_BYTES, FACTS_MAX, FIELDS_MAX = 400, 128, 8, 8


def domain(service: str) -> str:
    """The `ErrorInfo.domain` of a service."""
    return f"{service}.aquifer"


def to_status(error: ServiceError, domain: str) -> Status:
    """The status of an error: ErrorInfo, field violations, and RetryInfo if a retry can help.

    Long texts are cut: metadata above the client's limit would hide the error.
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
    """Seconds after which a retry may help; 0 if none does."""
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
    """A status with its ErrorInfo first, then the other details."""
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
    """The service error for a failed call, with its reason, facts, fields and retry time.

    A failed or broken connection is UnavailableError `<PEER>_UNAVAILABLE`.

    Returns:
        None for a bug (INTERNAL, an unknown method, a message too large): callers cannot act on it.
    """
    code, status = error.code(), _read_status(error)
    info, retry, fields = ErrorInfo(), RetryInfo(), BadRequest()
    for detail in status.details if status else ():
        for known in (info, retry, fields):
            detail.Unpack(known)
    if not info.reason and (code in _CONNECTION_FAILURES or code is grpc.StatusCode.UNAVAILABLE):
        return UnavailableError(f"{peer.upper()}_UNAVAILABLE", f"{peer} cannot be reached")
    if not info.reason and code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None  # a message above the limit; a retry would not help
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
    """True if a call was ended by its deadline.

    Args:
        given_s: seconds the server had at the start, None without a deadline.
        left_s: seconds left on the server's clock; the client's clock ends a call slightly earlier.
    """
    if given_s is None or left_s is None:
        return False
    return left_s <= DEADLINE_ROUNDING * given_s
