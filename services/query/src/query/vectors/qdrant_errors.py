"""Limits the time of calls to a Qdrant server, and translates their errors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from chassis.base.errors import OverloadedError, UnavailableError

_AWAY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_MISSING: Final = frozenset({grpc.StatusCode.NOT_FOUND, 404})


@asynccontextmanager
async def limit_time(timeout_s: float) -> AsyncIterator[None]:
    """Limits the time of calls and translates their errors; any other exception is a bug."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except ResourceExhaustedResponse as error:
        raise OverloadedError(
            "VECTORS_BUSY",
            "the vector store is overloaded; retry later",
            retry_after_s=error.retry_after_s,
        ) from error
    except (TimeoutError, ResponseHandlingException) as error:
        raise UnavailableError(
            "VECTORS_UNAVAILABLE", "the vector store does not answer; retry later"
        ) from error
    except (UnexpectedResponse, grpc.aio.AioRpcError, ValueError) as error:
        if (meant := _to_service_error(error)) is None:
            raise
        raise meant from error


def _to_service_error(error: Exception) -> UnavailableError | None:
    match error:
        case UnexpectedResponse(status_code=int(code)):
            away, missing = code >= 500, code in _MISSING  # noqa: PLR2004 (HTTP's server errors)
        case grpc.aio.AioRpcError():
            away, missing = error.code() in _AWAY, error.code() in _MISSING
        case _:  # the in-memory mode's way to say it
            away, missing = False, "not found" in str(error)
    if missing:
        return missing_error()
    return (
        UnavailableError("VECTORS_UNAVAILABLE", "the vector store does not answer; retry later")
        if away
        else None
    )


def missing_error() -> UnavailableError:
    """VECTORS_STORE_MISSING: there is no store with the fields that this version needs."""
    return UnavailableError("VECTORS_STORE_MISSING", "no store for this embedding profile")
