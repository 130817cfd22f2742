"""Calls an OpenAI-compatible server: time limits, bounds, and its failures as our errors."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import httpx2

from chassis.base.errors import (
    InvalidInputError,
    OverloadedError,
    ServiceError,
    UnavailableError,
)
from inference.engines.admission import Admission, Demand

CONNECT_S: Final = 3.0
# Until the first byte, a long prompt in a full queue included; and between two pieces.
SILENCE_S: Final = 120.0
CALL_S: Final = 30.0
# For a batch of texts on a slow machine.
BATCH_S: Final = 60.0
BODY_MAX_BYTES: Final = 16 << 20
ERROR_MAX_BYTES: Final = 64 << 10
RETRY_DEFAULT_S: Final = 1.0
RETRY_MAX_S: Final = 60.0
# What is safe to repeat is asked so many times, if the server is expected back so soon.
ATTEMPTS: Final = 3
REPEAT_WITHIN_S: Final = 2.0
# After so many failures in a row the server is left alone for a while.
FAILURES_MAX: Final = 5
PAUSE_S: Final = 5.0
DETAIL_MAX_CHARS: Final = 300

_TOO_LONG = re.compile(
    r"context.?length|maximum context|too long|exceeds? the (available )?context"
    r"|must have less than \d+ tokens"
)
# llama.cpp says it with status 500.
_TOO_LARGE = re.compile(r"too large to process")
_SHUTTING_DOWN = re.compile(r"after shutdown|shutting down")


@dataclass(slots=True)
class Breaker:
    """Refuses calls for `PAUSE_S` after `FAILURES_MAX` failures in a row; then one may try."""

    failures: int = 0
    open_until_s: float = 0.0

    def check(self, now_s: float) -> None:
        """Check that the server may be called.

        Raises:
            UnavailableError: ENGINE_UNREACHABLE.
        """
        left_s = self.open_until_s - now_s
        if left_s > 0:
            raise UnavailableError(
                "ENGINE_UNREACHABLE",
                "the engine failed several times in a row and is left alone for a while",
                retry_after_s=left_s,
            )

    def note(self, error: Exception | None, now_s: float) -> None:
        """Counts a call that ended; only failures of the server count."""
        if not isinstance(error, UnavailableError):
            self.failures = 0
            return
        self.failures += 1
        if self.failures >= FAILURES_MAX:
            self.open_until_s = now_s + PAUSE_S


@dataclass(slots=True)
class Upstream:
    """A server.

    Args:
        client: with the server's base URL and credentials.
        admission: of calls to it.
    """

    client: httpx2.AsyncClient
    admission: Admission
    breaker: Breaker = field(default_factory=Breaker)

    async def get(self, path: str) -> dict[str, Any]:
        """The JSON object at a path.

        Raises:
            UnavailableError: ENGINE_UNREACHABLE, ENGINE_REFUSED, ENGINE_FAILED, ENGINE_OUTPUT.
        """
        async with self._admitted(), asyncio.timeout(CALL_S):
            return await self._read_object("GET", path, None, {})

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        limit_s: float | None = None,
    ) -> dict[str, Any]:
        """The JSON object that a call without a stream is answered with, within `CALL_S`.

        Raises:
            ServiceError: as `stream`.
        """
        async with self._admitted(), asyncio.timeout(limit_s or CALL_S):
            return await self._read_object("POST", path, body, headers)

    async def ask(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> dict[str, Any]:
        """`post` of texts, which is safe to repeat: asks a server again that is busy for a moment.

        Raises:
            ServiceError: as `stream`.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return await self.post(path, body, headers, BATCH_S)
            except (OverloadedError, UnavailableError) as error:
                if not _is_passing(error):
                    raise
                wait_s = error.retry_after_s
            await asyncio.sleep(wait_s)
        return await self.post(path, body, headers, BATCH_S)

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        demand: Demand,
    ) -> AsyncIterator[httpx2.Response]:
        """An answer that is still being written; leaving the context closes the connection.

        A server stops its work for a connection that is closed.

        Raises:
            InvalidInputError: PROMPT_TOO_LONG, REQUEST_REFUSED.
            OverloadedError: ENGINE_BUSY.
            UnavailableError: ENGINE_UNREACHABLE, ENGINE_REFUSED, ENGINE_FAILED, ENGINE_OUTPUT.
        """
        async with self._admitted(demand):
            request = self.client.build_request("POST", path, json=body, headers=headers)
            response = await self.client.send(request, stream=True)
            try:
                await _check(response)
                yield response
            finally:
                await response.aclose()

    @asynccontextmanager
    async def _admitted(self, demand: Demand = Demand()) -> AsyncIterator[None]:  # noqa: B008
        """A free slot; errors of the server and of the way to it as our errors."""
        self.breaker.check(time.monotonic())
        async with self.admission.enter(demand):
            failure: ServiceError | None = None
            try:
                yield
            except (httpx2.HTTPError, httpx2.StreamError, TimeoutError) as error:
                failure = _to_service_error(error)
                raise failure from error
            except ServiceError as error:
                failure = error
                raise
            finally:
                self.breaker.note(failure, time.monotonic())

    async def _read_object(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        request = self.client.build_request(method, path, json=body, headers=headers)
        response = await self.client.send(request, stream=True)
        try:
            await _check(response)
            content = await _read(response, BODY_MAX_BYTES)
        finally:
            await response.aclose()
        try:
            found = httpx2.Response(200, content=content).json()
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise UnavailableError("ENGINE_OUTPUT", "the engine did not answer with a JSON object")
        return found


def open_client(base_url: str, api_key: str, concurrency: int) -> httpx2.AsyncClient:
    """A client of a server; `base_url` ends with its version, for example `/v1`."""
    return httpx2.AsyncClient(
        base_url=base_url.rstrip("/") + "/",
        headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        timeout=httpx2.Timeout(SILENCE_S, connect=CONNECT_S),
        limits=httpx2.Limits(
            max_connections=concurrency + 8, max_keepalive_connections=concurrency
        ),
        # The engine's address is a setting; a proxy of the environment is for other things.
        trust_env=False,
        follow_redirects=False,
    )


def to_error(status: int, said: str, retry_after_s: float | None = None) -> ServiceError:
    """The error for a status and what the server said; its words go to the caller only."""
    detail = " ".join(said.split())[:DETAIL_MAX_CHARS]
    is_long = _is_callers(status) and _TOO_LONG.search(said.lower())
    if is_long or _TOO_LARGE.search(said.lower()):
        return InvalidInputError("PROMPT_TOO_LONG", f"the engine says: {detail}")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return UnavailableError(
            "ENGINE_REFUSED",
            "the engine does not accept this service; check the API key in its settings",
            status=status,
        )
    if status == HTTPStatus.NOT_FOUND:
        return UnavailableError(
            "ENGINE_REFUSED",
            "the engine does not know the model, or is no server that can do this; check the URL"
            " and the model in its settings",
            status=status,
        )
    # vLLM with a full queue says 503.
    is_full = status == HTTPStatus.SERVICE_UNAVAILABLE and "queue" in said.lower()
    if is_full or status == HTTPStatus.TOO_MANY_REQUESTS:
        return OverloadedError(
            "ENGINE_BUSY",
            "the engine has too much to do",
            retry_after_s=retry_after_s or RETRY_DEFAULT_S,
        )
    if not _is_callers(status):
        what = "is shutting down" if _SHUTTING_DOWN.search(said.lower()) else "failed"
        return UnavailableError(
            "ENGINE_FAILED",
            f"the engine {what}; ask again",
            retry_after_s=retry_after_s or RETRY_DEFAULT_S,
            status=status,
        )
    return InvalidInputError("REQUEST_REFUSED", f"the engine says: {detail}", status=status)


def _is_passing(error: OverloadedError | UnavailableError) -> bool:
    if error.retry_after_s > REPEAT_WITHIN_S:
        return False
    is_away = error.reason == "ENGINE_UNREACHABLE"
    is_starting = error.facts.get("status") == str(HTTPStatus.SERVICE_UNAVAILABLE.value)
    return isinstance(error, OverloadedError) or is_away or is_starting


def _is_callers(status: int) -> bool:
    return HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR


async def _check(response: httpx2.Response) -> None:
    """Raises the error that a response is."""
    if response.status_code == HTTPStatus.OK:
        return
    said = (await _read(response, ERROR_MAX_BYTES)).decode(errors="replace")
    raise to_error(response.status_code, _message(said), _retry_after_s(response))


async def _read(response: httpx2.Response, limit: int) -> bytes:
    content = b""
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > limit:
            raise UnavailableError("ENGINE_OUTPUT", f"the engine sent more than {limit} bytes")
    return content


def _message(said: str) -> str:
    """The message in an error's JSON, or all of it."""
    try:
        found = httpx2.Response(200, content=said).json()
    except (ValueError, RecursionError):
        return said
    error = found.get("error", found) if isinstance(found, dict) else found
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else said


def _retry_after_s(response: httpx2.Response) -> float | None:
    """Seconds of the header `Retry-After`; its other form, a date, is not used by engines."""
    given = response.headers.get("retry-after", "")
    return min(float(given), RETRY_MAX_S) if given.isdecimal() else None


def _to_service_error(error: Exception) -> UnavailableError:
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.UnsupportedProtocol):
        return UnavailableError(
            "ENGINE_UNREACHABLE", "the engine cannot be reached", retry_after_s=RETRY_DEFAULT_S
        )
    if isinstance(error, httpx2.TimeoutException | TimeoutError):
        return UnavailableError("ENGINE_FAILED", "the engine said nothing for too long; ask again")
    return UnavailableError("ENGINE_FAILED", "the connection to the engine broke; ask again")
