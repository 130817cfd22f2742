"""Reads references over HTTP; connects only to the very addresses that were checked."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin

import httpcore2
from typing_extensions import override

from chassis.base.errors import InvalidInputError, NotFoundError, UnavailableError
from ingest.references.addresses import is_public
from ingest.references.origins import Origins, WebAddress, forbidden_error

REDIRECTS_MAX: Final = 4
CONNECT_S: Final = 5.0
IDLE_S: Final = 15.0
RESOLVERS: Final = 16
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# The server asks to come again: a timeout, too early, too many requests.
_LATER: Final = frozenset({408, 425, 429})
_OK: Final = 200
_FAILURES: Final = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    TimeoutError,
    OSError,
)


class WebReader:
    """Reads `https://` and `http://` of the open origins.

    Hosts of `private_hosts` may have an address that is not public. There are no cookies, no
    credentials, no proxy and no decompression; `time_limit_s` bounds one read as a whole.
    """

    def __init__(
        self,
        origins: Origins,
        private_hosts: frozenset[str],
        *,
        time_limit_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._origins = origins
        self._time_limit_s = time_limit_s
        self._tls = tls or ssl.create_default_context()
        self._backend = _CheckedBackend(private_hosts)

    def check(self, uri: str) -> WebAddress:
        """Reads an address and checks that it is open; connects to nothing.

        Raises:
            InvalidInputError: REFERENCE_FORBIDDEN.
        """
        address = WebAddress.parse(uri)
        self._origins.check_web(address)
        return address

    async def read(self, uri: str) -> AsyncGenerator[bytes]:
        """The bytes at an address, piece by piece, as the server sends them.

        Raises:
            InvalidInputError: REFERENCE_FORBIDDEN.
            NotFoundError: REFERENCE_MISSING.
            UnavailableError: REFERENCE_UNAVAILABLE.
        """
        address = self.check(uri)
        deadline = asyncio.get_running_loop().time() + self._time_limit_s
        async with AsyncExitStack() as stack:
            with _translate_errors(address):
                async with asyncio.timeout_at(deadline):
                    response = await self._open(stack, address)
            pieces = aiter(response.aiter_stream())
            while True:
                # The time limit is set anew for each piece: the caller works in between.
                with _translate_errors(address):
                    async with asyncio.timeout_at(deadline):
                        piece = await anext(pieces, b"")
                if not piece:
                    return
                yield piece

    async def _open(self, stack: AsyncExitStack, address: WebAddress) -> httpcore2.Response:
        """The response with the content, after all redirects."""
        for _ in range(REDIRECTS_MAX + 1):
            pool = await stack.enter_async_context(
                httpcore2.AsyncConnectionPool(
                    ssl_context=self._tls,
                    max_connections=1,
                    max_keepalive_connections=0,
                    network_backend=self._backend,
                )
            )
            response = await stack.enter_async_context(_request(pool, address))
            if response.status not in _REDIRECTS:
                _check_status(response.status, address)
                return response
            address = self._follow(address, response)
        raise forbidden_error(f"the server redirects more than {REDIRECTS_MAX} times")

    def _follow(self, address: WebAddress, response: httpcore2.Response) -> WebAddress:
        headers = {name.lower(): value for name, value in response.headers}
        location = headers.get(b"location")
        if not location:
            raise _unavailable_error(address, f"redirects nowhere ({response.status})")
        try:
            there = urljoin(str(address), location.decode("ascii").partition("#")[0])
        except ValueError as error:
            raise forbidden_error("the server redirects to an invalid address") from error
        try:
            return self.check(there)
        except InvalidInputError as error:
            raise forbidden_error(f"the server redirects elsewhere: {error.detail}") from error


def _request(
    pool: httpcore2.AsyncConnectionPool, address: WebAddress
) -> AbstractAsyncContextManager[httpcore2.Response]:
    # Taken apart once: the connection goes where the check looked, whatever the address is.
    url = httpcore2.URL(
        scheme=address.scheme.encode(),
        host=address.host.encode(),
        port=address.port,
        target=address.target.encode(),
    )
    headers: dict[bytes | str, bytes | str] = {
        "Host": address.netloc,
        "Accept-Encoding": "identity",
        "User-Agent": "aquifer",
    }
    limits = {"connect": CONNECT_S, "read": IDLE_S, "write": IDLE_S, "pool": IDLE_S}
    return pool.stream("GET", url, headers=headers, extensions={"timeout": limits})


def _check_status(status: int, address: WebAddress) -> None:
    if status == _OK:
        return
    if 400 <= status < 500 and status not in _LATER:  # noqa: PLR2004  (the client's errors)
        raise NotFoundError(
            "REFERENCE_MISSING",
            f"{address.netloc} answered {status}: the content is missing or not readable",
            status=status,
        )
    raise _unavailable_error(address, f"answered {status}")


@dataclass(frozen=True, slots=True)
class _CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves a name once, checks all its addresses, and connects to one of these."""

    private_hosts: frozenset[str]
    # A slow name server must not use up the threads that read and write objects.
    resolvers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolve")
    )
    plain: httpcore2.AsyncNetworkBackend = field(default_factory=httpcore2.AnyIOBackend)

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        async with asyncio.timeout(timeout):
            addresses = await self._resolve(host, port)
        failed: Exception = httpcore2.ConnectError("the name has no address")
        for address in addresses:
            try:
                return await self.plain.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.NetworkError, httpcore2.TimeoutException) as error:
                failed = error
        raise failed

    async def _resolve(self, host: str, port: int) -> Sequence[str]:
        """All addresses of a host, each of them checked."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self.resolvers, socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM
        )
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        # One forbidden address among public ones is an attempt to get past this check.
        if host not in self.private_hosts and not all(map(is_public, addresses)):
            raise forbidden_error(
                f"{host} has an address that is not public; operators add the host to"
                " AQUIFER_REFERENCE_PRIVATE_HOSTS if it is theirs"
            )
        return addresses


@contextmanager
def _translate_errors(address: WebAddress) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        detail = str(error) or type(error).__name__
        raise _unavailable_error(address, f"does not answer: {detail}") from error


def _unavailable_error(address: WebAddress, detail: str) -> UnavailableError:
    return UnavailableError("REFERENCE_UNAVAILABLE", f"{address.netloc} {detail}")
