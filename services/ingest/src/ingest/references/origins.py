"""What the operator has opened for references: web servers and buckets."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from typing_extensions import override

from chassis.base.errors import FailedPreconditionError, InvalidInputError

SETTING: Final = "AQUIFER_REFERENCE_ORIGINS"
PORTS: Final = {"https": 443, "http": 80}

_HOST: Final = r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]{2,45}\])"
_WEB: Final = re.compile(rf"(https?)://(\*|(?:\*\.)?{_HOST})(?::([0-9]{{1,5}}))?/?")
_BUCKET: Final = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/?")
# One reader of addresses: what is checked here is what is connected to.
_ADDRESS: Final = re.compile(rf"(https?)://({_HOST})(?::([0-9]{{1,5}}))?((?:/[!-~]*)?)")
_OBJECT: Final = re.compile(r"s3://([^/]+)/(.+)", re.DOTALL)
_KEY_MAX_BYTES: Final = 1024
PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True)
class WebAddress:
    """An address of a web server, taken apart; `host` in lower case, IPv6 without brackets."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Reads an absolute address without a fragment.

        Raises:
            InvalidInputError: REFERENCE_FORBIDDEN.
        """
        found = _ADDRESS.fullmatch(uri)
        if found is None or "#" in uri or not _port(found).isdecimal():
            if "@" in uri.partition("://")[2].partition("/")[0]:
                raise forbidden_error("an address may contain no user name or password")
            raise forbidden_error("send an address as https://host/path, with other signs escaped")
        scheme, host, target = found[1], found[2].strip("[]").rstrip(".").lower(), found[4]
        port = int(_port(found))
        if not 0 < port <= PORT_MAX:
            raise forbidden_error("the address has no valid port")
        return cls(scheme, host, port, target or "/")

    @property
    def netloc(self) -> str:
        """Host and port as in an address; the default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @override
    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.target}"


@dataclass(frozen=True, slots=True)
class WebOrigin:
    """An open web server, or all of a domain: `host` may begin with `*`."""

    scheme: str
    host: str
    port: int

    def matches(self, address: WebAddress) -> bool:
        """Whether an address is one of this origin."""
        if (self.scheme, self.port) != (address.scheme, address.port):
            return False
        if self.host.startswith("*"):
            return address.host.endswith(self.host[1:])
        return address.host == self.host


@dataclass(frozen=True, slots=True)
class Origins:
    """Web servers (exact names, `*.example.com`, or `*` for all) and buckets."""

    web: tuple[WebOrigin, ...] = ()
    buckets: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, setting: str) -> Self:
        """Reads the setting: `https://host[:port]` and `s3://bucket`, separated by commas.

        Raises:
            FailedPreconditionError: REFERENCE_ORIGIN_INVALID.
        """
        web, buckets = [], set()
        for one in split_setting(setting):
            if bucket := _BUCKET.fullmatch(one):
                buckets.add(bucket[1])
            elif (found := _WEB.fullmatch(one)) and 0 < int(_port(found)) <= PORT_MAX:
                host = found[2].strip("[]").rstrip(".").lower()
                web.append(WebOrigin(found[1], host, int(_port(found))))
            else:
                raise FailedPreconditionError(
                    "REFERENCE_ORIGIN_INVALID",
                    f"{SETTING}: write https://host, http://host:port or s3://bucket, not {one}",
                    found=one,
                )
        return cls(tuple(web), frozenset(buckets))

    def check_web(self, address: WebAddress) -> None:
        """Checks that a web address is open.

        Raises:
            InvalidInputError: REFERENCE_FORBIDDEN.
        """
        if not any(one.matches(address) for one in self.web):
            raise forbidden_error(
                f"{address.scheme}://{address.netloc} is not open for references; operators add it"
                f" to {SETTING}"
            )

    def read_object(self, uri: str) -> tuple[str, str]:
        """Bucket and key of an `s3://` address whose bucket is open.

        Raises:
            InvalidInputError: REFERENCE_FORBIDDEN.
        """
        found = _OBJECT.fullmatch(uri)
        if found is None or len(found[2].encode()) > _KEY_MAX_BYTES or "\x00" in uri:
            raise forbidden_error("send an address as s3://bucket/key")
        if found[1] not in self.buckets:
            raise forbidden_error(
                f"the bucket is not open for references; operators add it to {SETTING}"
            )
        return found[1], found[2]


def split_setting(setting: str) -> Sequence[str]:
    """The entries of a setting, which commas or blanks separate."""
    return setting.replace(",", " ").split()


def forbidden_error(detail: str) -> InvalidInputError:
    """The address of a reference may not be read."""
    return InvalidInputError("REFERENCE_FORBIDDEN", detail)


def _port(found: re.Match[str]) -> str:
    return found[3] or str(PORTS[found[1]])
