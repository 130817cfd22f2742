"""Identity: verifies access tokens offline, and gets the token for calls to other services."""

import asyncio
import hashlib
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aquifer.auth.v1.auth_service_pb2 import ExchangeTokenRequest
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from chassis.base.errors import ForbiddenError, ServiceError, UnauthenticatedError, UnavailableError
from chassis.base.labels import Held, hold

log = logging.getLogger(__name__)

ISSUER = "aquifer.auth"
AUDIENCE = "aquifer"
TOKEN_TYPE = "at+jwt"  # noqa: S105 (RFC 9068's name of a type, no secret)
CLAIMS = ("exp", "iat", "nbf", "sub", "tenant", "key", "scope")
LEEWAY_S = 30
TOKEN_MAX_S = 900
TOKEN_MAX_CHARS = 8_192
CACHED_TOKENS_MAX = 4_096
KEYS_KEPT_S = 600.0
KEYS_REFRESH_MIN_S = 60.0
KEYS_LOAD_ATTEMPTS = 40
AUTH_TIMEOUT_S = 2.0
FIRST_RETRY_S = 0.25
RENEW_RETRY_S = 5.0

TENANT_KEY = "x-aquifer-tenant"
INTERNAL = "internal"
_TENANT = re.compile(r"[a-z0-9-]{1,63}")

Metadata = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The verified sender of a call; `expires_at` is in Unix seconds, `labels` None means all."""

    tenant: str
    principal: str
    key_id: str
    scopes: frozenset[str]
    expires_at: float
    labels: Held = None

    def require(self, scopes: frozenset[str]) -> None:
        """Checks that the caller has at least one of the scopes.

        Raises:
            ForbiddenError: SCOPE_MISSING, with the scopes that would be sufficient.
        """
        if not self.scopes & scopes:
            enough = " or ".join(sorted(scopes))
            raise ForbiddenError("SCOPE_MISSING", f"needs the scope {enough}", scope=enough)


@dataclass(frozen=True, slots=True)
class _AdmittedCaller:
    caller: Caller
    token: str


_admitted: ContextVar[_AdmittedCaller | None] = ContextVar("chassis_admitted", default=None)
_acting_for: ContextVar[str | None] = ContextVar("chassis_acting_for", default=None)


def caller() -> Caller:
    """The sender of the current call.

    Raises:
        LookupError: outside a call, or in a public method; a bug of the service.
    """
    if (admitted := _admitted.get()) is None:
        raise LookupError("no verified caller in this context")
    return admitted.caller


def admit(who: Caller, token: str) -> None:
    """Makes `who` the `caller()` of the current task; `forward_caller` will send `token`."""
    _admitted.set(_AdmittedCaller(who, token))
    hold(who.labels)


@contextmanager
def act_for(tenant: str) -> Iterator[None]:
    """Sets the tenant for which this service makes calls, outside a served call."""
    token = _acting_for.set(tenant)
    try:
        yield
    finally:
        _acting_for.reset(token)


async def forward_caller() -> Metadata:
    """The credentials of the current call, unchanged; empty outside a call."""
    admitted = _admitted.get()
    return [] if admitted is None else [("authorization", f"Bearer {admitted.token}")]


async def send_no_credentials() -> Metadata:
    """No credentials; for the public methods of auth."""
    return []


def read_bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The access token in the metadata of a call.

    Raises:
        UnauthenticatedError: TOKEN_MISSING; TOKEN_INVALID unless there is exactly one bearer token.
    """
    found = [value for key, value in metadata if key == "authorization"]
    if not found:
        raise _refusal("TOKEN_MISSING")
    scheme, _, token = str(found[0]).partition(" ")
    if len(found) > 1 or scheme.lower() != "bearer":
        raise _refusal("TOKEN_INVALID")
    return token


def apply_acting_tenant(who: Caller, metadata: Mapping[str, object]) -> Caller:
    """The caller, with the tenant it names in the metadata if it is a service.

    Raises:
        ForbiddenError: TENANT_FOREIGN, the caller is not a service, or the tenant id is invalid.
    """
    tenant = metadata.get(TENANT_KEY)
    if tenant is None:
        return who
    if INTERNAL not in who.scopes or not _TENANT.fullmatch(str(tenant)):
        raise ForbiddenError("TENANT_FOREIGN", "only a service may act for another tenant")
    return replace(who, tenant=str(tenant))


def _refusal(reason: str) -> UnauthenticatedError:
    details = {
        "TOKEN_MISSING": "send metadata authorization: Bearer <access token>",
        "TOKEN_INVALID": "the access token is not valid here",
        "TOKEN_EXPIRED": "the access token has expired; exchange the key again",
    }
    return UnauthenticatedError(reason, details[reason])


class Verifier:
    """Converts access tokens to `Caller`s; offline, once the keys are loaded.

    Args:
        fetch: returns the JWK set of auth (RFC 7517 JSON).
        now: Unix seconds.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[str]],
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._now = now
        self._clock = clock
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._keys_until = self._fetch_from = clock()
        self._fetching = asyncio.Lock()
        self._verified: OrderedDict[bytes, Caller] = OrderedDict()

    @property
    def is_loaded(self) -> bool:
        """True once a key set was loaded; before that no token can be verified."""
        return bool(self._keys)

    async def load(self) -> None:
        """Fetches the keys, in at most `KEYS_LOAD_ATTEMPTS` tries.

        Raises:
            UnavailableError: KEYS_NOT_LOADED.
        """
        for _ in range(KEYS_LOAD_ATTEMPTS):
            await self._refresh(FIRST_RETRY_S)
            if self.is_loaded:
                return
            await asyncio.sleep(FIRST_RETRY_S)
        raise UnavailableError("KEYS_NOT_LOADED", "the public keys of auth are not loaded yet")

    async def verify(self, token: str) -> Caller:
        """The caller a token was issued to; revocations are checked by `Revocations`.

        Raises:
            UnauthenticatedError: TOKEN_INVALID, without the reason, or TOKEN_EXPIRED.
            UnavailableError: KEYS_NOT_LOADED.
        """
        if len(token) > TOKEN_MAX_CHARS or not token.isascii():
            raise _refusal("TOKEN_INVALID")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is None:
            known = self._verified[digest] = _decode(token, await self._key(token))
            if len(self._verified) > CACHED_TOKENS_MAX:
                self._verified.popitem(last=False)
        else:
            self._verified.move_to_end(digest)
        if known.expires_at + LEEWAY_S <= self._now():
            raise _refusal("TOKEN_EXPIRED")
        return known

    async def _key(self, token: str) -> Ed25519PublicKey:
        header = _header(token)
        kid = header.get("kid")
        if header.get("typ") != TOKEN_TYPE or not isinstance(kid, str):
            raise _refusal("TOKEN_INVALID")
        if not self._keys:
            await self._refresh(FIRST_RETRY_S)
        elif kid not in self._keys:
            await self._refresh(KEYS_REFRESH_MIN_S)
        elif self._clock() >= self._keys_until and not self._fetching.locked():
            await self._refresh(RENEW_RETRY_S)
        if not self._keys:
            raise UnavailableError("KEYS_NOT_LOADED", "the public keys of auth are not loaded yet")
        if kid not in self._keys:
            raise _refusal("TOKEN_INVALID")
        return self._keys[kid]

    async def _refresh(self, pause_s: float) -> None:
        """Fetches the keys, at most once per `pause_s`; on failure the old ones stay."""
        async with self._fetching:
            if self._clock() < self._fetch_from:
                return
            self._fetch_from = self._clock() + pause_s
            try:
                async with asyncio.timeout(AUTH_TIMEOUT_S):
                    keys = _public_keys(await self._fetch())
            except (ServiceError, grpc.RpcError, TimeoutError, jwt.PyJWTError) as error:
                log.warning("keys.not_refreshed", extra={"error": repr(error)})
                return
            if keys != self._keys:
                self._verified.clear()
            self._keys = keys
            self._keys_until = self._clock() + KEYS_KEPT_S


def _public_keys(jwks: str) -> dict[str, Ed25519PublicKey]:
    return {
        key.key_id: key.key
        for key in jwt.PyJWKSet.from_json(jwks).keys
        if key.key_id and isinstance(key.key, Ed25519PublicKey)
    }


# Raised for malformed tokens: the library's own errors, invalid numbers or UTF-8, nesting deeper
# than the stack, a number too large for a float.
_UNREADABLE = (jwt.PyJWTError, ValueError, RecursionError, OverflowError)


def _header(token: str) -> dict[str, object]:
    try:
        return dict(jwt.get_unverified_header(token))
    except _UNREADABLE as error:
        raise _refusal("TOKEN_INVALID") from error


def _decode(token: str, key: Ed25519PublicKey) -> Caller:
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=["EdDSA"],
            audience=AUDIENCE,
            issuer=ISSUER,
            leeway=LEEWAY_S,
            options={"require": [*CLAIMS, "aud", "iss"], "strict_aud": True},
        )
        who = Caller(
            tenant=_text(claims["tenant"]),
            principal=_text(claims["sub"]),
            key_id=_text(claims["key"]),
            scopes=frozenset(_text(claims["scope"]).split()),
            expires_at=float(claims["exp"]),
            labels=_labels(claims),
        )
        lifetime_s = who.expires_at - float(claims["iat"])
    except jwt.ExpiredSignatureError as error:
        raise _refusal("TOKEN_EXPIRED") from error
    except _UNREADABLE as error:
        raise _refusal("TOKEN_INVALID") from error
    # Revocations are kept only this long, so no token may live longer.
    if lifetime_s > TOKEN_MAX_S or not _TENANT.fullmatch(who.tenant):
        raise _refusal("TOKEN_INVALID")
    return who


def _labels(claims: Mapping[str, object]) -> Held:
    """The claim `labels`; a token without it holds all."""
    if "labels" not in claims:
        return None
    given = claims["labels"]
    if not isinstance(given, list):
        raise ValueError("claim is not a list")  # noqa: TRY004  (as every unreadable claim)
    return frozenset(map(_text, given))


def _text(claim: object) -> str:
    if not isinstance(claim, str) or not claim:
        raise ValueError("claim is not a non-empty string")
    claim.encode()  # a lone surrogate cannot be logged or stored
    return claim


class TokenSource:
    """The access token of this service, exchanged for its API key and renewed at half its lifetime.

    While auth is unavailable, the current token is used until it expires.

    Args:
        channel: to auth, opened with `send_no_credentials`.
        api_key: the key of this service.
        now: Unix seconds.
    """

    def __init__(
        self, channel: grpc.aio.Channel, api_key: str, *, now: Callable[[], float] = time.time
    ) -> None:
        self._auth = AuthServiceStub(channel)
        self._api_key = api_key
        self._now = now
        self._token = ""
        self._renew_from = self._expires_at = 0.0
        self._renewing = asyncio.Lock()

    async def __call__(self) -> Metadata:
        """Metadata for calls to other services: the token, and the tenant to act for, if any."""
        credentials = [("authorization", f"Bearer {await self.token()}")]
        tenant = _acting_for.get()
        if tenant is None and (admitted := _admitted.get()) is not None:
            tenant = admitted.caller.tenant
        return credentials if tenant is None else [*credentials, (TENANT_KEY, tenant)]

    async def token(self) -> str:
        """A token that has not expired.

        Raises:
            UnavailableError: SERVICE_TOKEN_UNAVAILABLE, auth is unavailable or refuses the key.
        """
        usable = self._now() < self._expires_at
        if usable and (self._now() < self._renew_from or self._renewing.locked()):
            return self._token
        async with self._renewing:
            if self._now() >= self._renew_from:
                await self._renew()
        if self._now() >= self._expires_at:
            raise UnavailableError(
                "SERVICE_TOKEN_UNAVAILABLE",
                "this service could not get a token from auth; check auth and AQUIFER_SERVICE_KEY",
            )
        return self._token

    async def _renew(self) -> None:
        asked_at = self._now()
        try:
            answer = await self._auth.ExchangeToken(
                ExchangeTokenRequest(api_key=self._api_key), timeout=AUTH_TIMEOUT_S
            )
        except (ServiceError, grpc.RpcError) as error:
            log.warning("token.not_renewed", extra={"error": repr(error)})
            usable = self._now() < self._expires_at
            self._renew_from = self._now() + (RENEW_RETRY_S if usable else FIRST_RETRY_S)
        else:
            self._token = answer.access_token
            self._expires_at = answer.expire_time.ToMilliseconds() / 1_000
            self._renew_from = (asked_at + self._expires_at) / 2
