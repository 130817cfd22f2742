"""Who is let in, and with which words the others are turned away."""

import asyncio
import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.timestamp_pb2 import Timestamp

from aquifer.auth.v1 import auth_service_pb2, auth_service_pb2_grpc
from chassis.base.errors import UnauthenticatedError, UnavailableError
from chassis.identity import tokens as identity
from chassis.identity.tokens import Caller, TokenSource, Verifier, act_for, send_no_credentials
from chassis.rpc.channel import open_channel
from chassis.rpc.server import PUBLIC, create_server, server_interceptors


def b64(data) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(mint, header, payload) -> str:
    """A token of any header, properly signed by the real key: only its words are wrong."""
    signed = f"{b64(header)}.{b64(payload)}"
    return f"{signed}.{b64(mint.private.sign(signed.encode()))}"


def hostile(mint):
    good = {"typ": "at+jwt", "alg": "EdDSA", "kid": mint.kid}
    claims = mint.claims()
    now = int(time.time())
    pem = mint.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    other = Ed25519PrivateKey.generate()
    unsigned = f"{b64(good | {'alg': 'none'})}.{b64(claims)}"
    hashed = f"{b64(good | {'alg': 'HS256'})}.{b64(claims)}"
    raw_key = mint.private.public_key().public_bytes_raw()
    valid = mint.token()
    yield "empty", ""
    yield "words", "not a token"
    yield "dots", "..."
    yield "unicode", "ä.ö.ü"
    yield "none algorithm", f"{unsigned}."
    yield "None algorithm, signed", sign(mint, good | {"alg": "None"}, claims)
    for name, secret in (("pem", pem), ("raw", raw_key)):
        signature = hmac.new(secret, hashed.encode(), hashlib.sha256).digest()
        yield f"HS256 with the public key, {name}", f"{hashed}.{b64(signature)}"
    yield "cut signature", valid[:-8]
    yield "no signature", valid.rsplit(".", 1)[0] + "."
    yield (
        "changed claims",
        ".".join(
            [valid.split(".")[0], b64(claims | {"scope": "echo internal"}), valid.split(".")[2]]
        ),
    )
    yield "another key under our kid", mint.token(signer=other)
    yield "unknown kid", mint.token(kid="key-2")
    yield "kid of a path", mint.token(kid="../../etc/passwd")
    yield "no kid", sign(mint, {"typ": "at+jwt", "alg": "EdDSA"}, claims)
    yield "kid a list", sign(mint, good | {"kid": [mint.kid]}, claims)
    jwk = jwt.algorithms.OKPAlgorithm.to_jwk(other.public_key(), as_dict=True)
    embedded = f"{b64(good | {'jwk': jwk, 'kid': 'mine'})}.{b64(claims)}"
    yield "embedded key", f"{embedded}.{b64(other.sign(embedded.encode()))}"
    yield "jku", sign(mint, good | {"jku": "http://127.0.0.1/keys", "kid": "x"}, claims)
    yield "unknown crit", sign(mint, good | {"crit": ["exp2"], "exp2": 1}, claims)
    yield "header a list", sign(mint, [], claims)
    yield "header deep", f"{b64(b'[' * 3_000)}.{b64(claims)}.{b64(b'x')}"
    yield "payload deep", sign(mint, good, b"[" * 3_000)
    yield "payload a list", sign(mint, good, [])
    yield "payload no json", sign(mint, good, b"\xff\xfe")
    for typ in ("JWT", "at+JWT ", "id+jwt", "rt+jwt", ""):
        yield f"typ {typ!r}", mint.token(typ=typ)
    yield "no typ", sign(mint, {"alg": "EdDSA", "kid": mint.kid}, claims)
    yield "another audience", mint.token(aud="elsewhere")
    yield "one audience of several", mint.token(aud=["aquifer", "elsewhere"])
    yield "another issuer", mint.token(iss="aquifer.auth.evil")
    for claim in claims:
        yield f"without {claim}", mint.token(**{claim: None})
    for claim in ("sub", "tenant", "key", "scope"):
        for value in (7, ["a"], {"a": 1}, ""):
            yield f"{claim} = {value!r}", sign(mint, good, claims | {claim: value})
    for claim in ("exp", "iat", "nbf"):
        for value in ("soon", [1], {}, 1e400, -1e400):
            yield f"{claim} = {value!r}", sign(mint, good, claims | {claim: value})
    yield "not yet valid", mint.token(nbf=now + 300)
    yield "issued in the future", mint.token(iat=now + 300, exp=now + 600)
    yield "lives too long", mint.token(exp=now + 86_400)
    yield "labels no list", mint.token(labels="hr")
    yield "label no text", mint.token(labels=["hr", 1])
    yield "label empty", mint.token(labels=[""])
    yield "tenant no tenant", mint.token(tenant="Acme Inc/../x")
    yield "huge", mint.token(sub="x" * 1_000_000)


async def test_no_hostile_token_is_accepted(mint):
    async def jwks():
        return mint.jwks()

    verifier = Verifier(jwks)
    await verifier.load()
    assert (await verifier.verify(mint.token())).tenant == "acme"
    checked = 0
    for name, token in hostile(mint):
        for _ in range(2):  # a refusal is not remembered as anything else
            with pytest.raises(UnauthenticatedError) as refused:
                await verifier.verify(token)
            assert refused.value.reason == "TOKEN_INVALID", name
            assert refused.value.detail == "the access token is not valid here", name
        checked += 1
    assert checked > 60


async def test_the_claims_become_the_caller(mint, edge):
    caller = await edge.verifier.verify(
        mint.token(scope="echo documents.read", exp=int(time.time()) + 60)
    )
    assert caller == Caller(
        tenant="acme",
        principal="user:ada",
        key_id="k1",
        scopes=frozenset({"echo", "documents.read"}),
        expires_at=caller.expires_at,
    )


async def test_a_verified_token_ends_at_its_time_all_the_same(mint):
    now = time.time()
    clock = [now]

    async def jwks():
        return mint.jwks()

    verifier = Verifier(jwks, now=lambda: clock[0])
    token = mint.token()
    await verifier.verify(token)
    clock[0] = now + 600 + identity.LEEWAY_S + 1
    with pytest.raises(UnauthenticatedError) as refused:
        await verifier.verify(token)
    assert refused.value.reason == "TOKEN_EXPIRED"


async def test_verified_tokens_are_kept_in_bounds(mint, monkeypatch, edge):
    monkeypatch.setattr(identity, "CACHED_TOKENS_MAX", 3)
    for n in range(10):
        await edge.verifier.verify(mint.token(sub=f"user:{n}"))
    assert len(edge.verifier._verified) == 3


async def test_keys_are_fetched_again_for_an_unknown_kid_but_once_a_minute(mint):
    clock, fetched = [1_000.0], []

    async def jwks():
        fetched.append(clock[0])
        return mint.jwks()

    verifier = Verifier(jwks, clock=lambda: clock[0])
    old = mint.token()
    await verifier.verify(old)
    mint.private, mint.kid = Ed25519PrivateKey.generate(), "key-2"
    clock[0] += 5
    assert (await verifier.verify(mint.token())).tenant == "acme", "a rotation is seen at once"
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(old)  # its key is gone, and so is what was remembered
    for _ in range(20):
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(mint.token(kid="made-up"))
    assert fetched == [1_000.0, 1_005.0]
    clock[0] += identity.KEYS_REFRESH_MIN_S + 1
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(mint.token(kid="made-up"))
    assert len(fetched) == 3


async def test_keys_outlive_auth_and_are_retired_with_it(mint):
    clock, away = [1_000.0], [True]

    async def jwks():
        if away[0]:
            raise UnavailableError("AUTH_UNAVAILABLE", "away")
        return mint.jwks()

    verifier = Verifier(jwks, clock=lambda: clock[0])
    with pytest.raises(UnavailableError) as refused:
        await verifier.verify(mint.token())
    assert refused.value.reason == "KEYS_NOT_LOADED"
    away[0] = False
    clock[0] += 1
    assert await verifier.verify(mint.token())
    away[0] = True
    clock[0] += identity.KEYS_KEPT_S + 1
    assert await verifier.verify(mint.token(sub="user:new")), "auth alone away: go on"
    away[0] = False
    withdrawn = mint.token(sub="user:newer")
    mint.private, mint.kid = Ed25519PrivateKey.generate(), "key-2"
    clock[0] += identity.RENEW_RETRY_S + 1
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(withdrawn)


async def test_loading_keys_gives_up_in_time(monkeypatch):
    monkeypatch.setattr(identity, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(identity, "AUTH_TIMEOUT_S", 0.01)

    async def hangs():
        await asyncio.sleep(60)

    verifier = Verifier(hangs)
    with pytest.raises(UnavailableError):
        await asyncio.wait_for(verifier.load(), 20)
    assert not verifier.is_loaded


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], "TOKEN_MISSING"),
        ([("authorization", "Basic YTpi")], "TOKEN_INVALID"),
        ([("authorization", "Bearer ")], "TOKEN_INVALID"),
        ([("authorization", "Bearer x"), ("authorization", "Bearer y")], "TOKEN_INVALID"),
    ],
)
async def test_calls_without_a_good_token_are_refused(edge, arity, metadata, reason):
    code, rich = await edge.failure(edge.call(await edge.plain(), arity, metadata=metadata))
    assert code == "UNAUTHENTICATED"
    assert reason.encode() in rich.details[0].value
    assert not edge.echo.calls


async def test_two_tokens_in_one_call_are_refused_even_if_one_is_good(edge):
    metadata = [*edge.bearer(), *edge.bearer(sub="user:eve")]
    code, _ = await edge.failure(edge.call(await edge.plain(), "Unary", metadata=metadata))
    assert code == "UNAUTHENTICATED"


async def test_a_missing_scope_is_named(edge, arity):
    code, rich = await edge.failure(
        edge.call(await edge.plain(), arity, metadata=edge.bearer(scope="search"))
    )
    assert code == "PERMISSION_DENIED"
    assert rich.message == "needs the scope echo or internal"


async def test_an_expired_token_says_so(edge):
    now = int(time.time())
    bearer = edge.bearer(iat=now - 700, nbf=now - 700, exp=now - 100)
    _, rich = await edge.failure(edge.call(await edge.plain(), "Unary", metadata=bearer))
    assert b"TOKEN_EXPIRED" in rich.details[0].value


async def test_only_a_service_acts_for_a_tenant(edge):
    seen = []

    async def does():
        seen.append(identity.caller().tenant)

    edge.echo.does = does
    channel = await edge.plain()
    named = ("x-aquifer-tenant", "globex")
    await edge.call(channel, "Unary", metadata=[*edge.bearer(scope="internal"), named])
    await edge.call(channel, "Unary", metadata=edge.bearer(scope="internal"))
    assert seen == ["globex", "acme"]
    code, rich = await edge.failure(edge.call(channel, "Unary", metadata=[*edge.bearer(), named]))
    assert code == "PERMISSION_DENIED"
    assert b"TENANT_FOREIGN" in rich.details[0].value
    bad = ("x-aquifer-tenant", "../globex")
    code, _ = await edge.failure(
        edge.call(channel, "Unary", metadata=[*edge.bearer(scope="internal"), bad])
    )
    assert code == "PERMISSION_DENIED"


async def test_nobody_calls_a_public_method(edge):
    async def does():
        with pytest.raises(LookupError):
            identity.caller()

    edge.echo.does = does
    assert await edge.call(await edge.plain(), "Open") == "a b"


class Auth(auth_service_pb2_grpc.AuthServiceServicer):
    """Only the exchange, signed by the test's mint."""

    def __init__(self, mint) -> None:
        self.mint = mint
        self.exchanged = 0
        self.life_s = 600.0

    async def ExchangeToken(self, request, context):
        if request.api_key != "the key":
            raise UnauthenticatedError("KEY_INVALID", "no such key")
        self.exchanged += 1
        expires = Timestamp()
        expires.FromMilliseconds(round((time.time() + self.life_s) * 1_000))
        token = self.mint.token(sub=f"service:query-{self.exchanged}", scope="internal")
        return auth_service_pb2.ExchangeTokenResponse(access_token=token, expire_time=expires)

    GetJwks = ListRevocations = CreateTenant = GetTenant = ListTenants = SuspendTenant = None
    ResumeTenant = CreateApiKey = ListApiKeys = RevokeApiKey = None


@pytest.fixture
async def auth(edge):
    names = auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"].methods_by_name
    access = {f"aquifer.auth.v1.AuthService/{name}": PUBLIC for name in names}
    server, _ = await create_server(
        server_interceptors("auth", edge.verifier, edge.revocations, access), access
    )
    servicer = Auth(edge.mint)
    auth_service_pb2_grpc.add_AuthServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    servicer.server = server
    await server.start()
    yield servicer
    await server.stop(0)


async def test_a_service_calls_as_itself_for_the_tenant_at_hand(edge, auth):
    async with open_channel(
        auth.address, service="auth", credentials=send_no_credentials
    ) as public:
        sibling = await edge.open_channel(credentials=TokenSource(public, "the key"))
        seen = []

        async def does():
            seen.append((identity.caller().principal, identity.caller().tenant))
            if edge.echo.calls == 2:
                await edge.call(sibling, "Unary")

        edge.echo.does = does
        with act_for("globex"):
            await edge.call(sibling, "Unary")
        await edge.call(await edge.plain(), "Unary", metadata=edge.bearer(tenant="initech"))
        assert seen == [
            ("service:query-1", "globex"),
            ("user:ada", "initech"),
            ("service:query-1", "initech"),
        ]
        assert auth.exchanged == 1


async def test_a_token_is_renewed_at_half_its_life_once_for_all(edge, auth):
    now = [time.time()]
    async with open_channel(
        auth.address, service="auth", credentials=send_no_credentials
    ) as public:
        source = TokenSource(public, "the key", now=lambda: now[0])
        first = {await source.token() for _ in range(5)}
        now[0] += 310
        renewed = set(await asyncio.gather(*(source.token() for _ in range(10))))
        assert auth.exchanged == 2
        assert len(first) == 1
        await source.token()
        assert auth.exchanged == 2
        assert renewed - first


async def test_while_auth_is_away_the_token_at_hand_serves_until_it_ends(edge, auth, monkeypatch):
    now = [time.time()]
    async with open_channel(
        auth.address, service="auth", credentials=send_no_credentials
    ) as public:
        source = TokenSource(public, "the key", now=lambda: now[0])
        token = await source.token()
        monkeypatch.setattr(identity, "AUTH_TIMEOUT_S", 0.3)
        await auth.server.stop(0)
        now[0] += 400
        assert await source.token() == token
        now[0] += 300
        with pytest.raises(UnavailableError) as refused:
            await source.token()
        assert refused.value.reason == "SERVICE_TOKEN_UNAVAILABLE"


async def test_a_refused_service_key_is_not_the_callers_fault(edge, auth):
    async with open_channel(
        auth.address, service="auth", credentials=send_no_credentials
    ) as public:
        sibling = await edge.open_channel(credentials=TokenSource(public, "wrong"))
        with pytest.raises(UnavailableError) as refused:
            await edge.call(sibling, "Unary")
        assert refused.value.reason == "SERVICE_TOKEN_UNAVAILABLE"


async def test_a_service_without_the_scope_is_unavailable_to_its_caller(edge, auth, monkeypatch):
    monkeypatch.setattr(
        edge.mint,
        "claims",
        lambda **changes: type(edge.mint).claims(edge.mint, **changes) | {"scope": "other"},
    )
    async with open_channel(
        auth.address, service="auth", credentials=send_no_credentials
    ) as public:
        sibling = await edge.open_channel(credentials=TokenSource(public, "the key"))
        with pytest.raises(UnavailableError) as refused:
            await edge.call(sibling, "Unary")
        assert refused.value.reason == "SERVICE_REFUSED"
        assert refused.value.facts == {"cause": "SCOPE_MISSING"}
