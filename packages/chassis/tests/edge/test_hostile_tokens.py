"""A token made to break its reader is refused like any other, without an incident."""

import asyncio
import base64
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.base.errors import UnauthenticatedError
from chassis.identity.tokens import Verifier

from .conftest import Mint

DEEP = 900, 2_900  # levels of nesting: below and above what Python's own stack takes


def b64(text) -> str:
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(mint, header, payload="") -> str:
    """A token of any text, properly signed by the real key."""
    body = f"{b64(header)}.{b64(payload or json.dumps(mint.claims()))}"
    return f"{body}.{b64(mint.private.sign(body.encode()))}"


def headers():
    """Texts of headers that break one or another reader of JSON."""
    good = '"typ": "at+jwt", "alg": "EdDSA"'
    for levels in DEEP:
        yield f"lists, {levels}", "[" * levels + "]" * levels
        yield f"open lists, {levels}", "[" * levels
        yield f"objects, {levels}", '{"a":' * (levels // 2) + "1" + "}" * (levels // 2)
        yield f"kid of lists, {levels}", f'{{{good}, "kid": {"[" * levels}{"]" * levels}}}'
        yield f"beside kid, {levels}", f'{{{good}, "kid": "k", "x": {"[" * levels}{"]" * levels}}}'
    for name, number in (
        ("4,000 digits", "9" * 4_000),
        ("5,500 digits", "9" * 5_500),
        ("huge exponent", "1e999999"),
        ("not a number", "NaN"),
        ("infinite", "-Infinity"),
    ):
        yield f"kid, {name}", f'{{{good}, "kid": {number}}}'
        yield f"alg, {name}", f'{{"typ": "at+jwt", "alg": {number}, "kid": "key-1"}}'
        yield f"header, {name}", number
    for name, text in (
        ("lone surrogate", "\\ud800"),
        ("pair the wrong way round", "\\udc00\\ud800"),
        ("NUL", "\\u0000"),
        ("escape sequence", "\\u001b[2J\\r\\nlevel=ERROR"),
    ):
        yield f"kid, {name}", f'{{{good}, "kid": "{text}"}}'
        yield f"typ, {name}", f'{{"typ": "{text}", "alg": "EdDSA", "kid": "key-1"}}'
        yield f"alg, {name}", f'{{"typ": "at+jwt", "alg": "{text}", "kid": "key-1"}}'
        yield f"crit, {name}", f'{{{good}, "kid": "key-1", "crit": ["{text}"]}}'
    yield "raw surrogate", f'{{{good}, "kid": "\ud800"}}'
    yield "the same key many times", "{" + good + ', "kid": "a"' * 300 + "}"


def claims(mint):
    """Texts of claims, under a good header: only auth could sign them."""
    for levels in DEEP:
        yield f"lists, {levels}", "[" * levels + "]" * levels
        yield (
            f"sub, {levels}",
            json.dumps(mint.claims(sub=0)).replace(
                '"sub": 0', f'"sub": {"[" * levels}{"]" * levels}'
            ),
        )
    for claim in ("exp", "iat", "nbf"):
        for number in ("9" * 400, "9" * 4_400, "1e999999", "-1e999999", "NaN", "-" + "9" * 400):
            if claim == "nbf" and number == "-" + "9" * 400:
                continue  # valid since long ago
            text = json.dumps(mint.claims(**{claim: "here"}))
            yield f"{claim} {number[:9]}", text.replace('"here"', number)
    for claim in ("sub", "tenant", "key", "scope"):
        text = json.dumps(mint.claims(**{claim: "here"}))
        yield f"{claim} surrogate", text.replace("here", "\\ud800")


async def find_refusal(verifier, token):
    with pytest.raises(UnauthenticatedError) as refused:
        await verifier.verify(token)
    return refused.value.reason


@pytest.fixture
async def verifier(mint):
    async def jwks():
        return mint.jwks()

    verifier = Verifier(jwks)
    await verifier.load()
    return verifier


@pytest.mark.parametrize("header", [text for _, text in headers()], ids=[n for n, _ in headers()])
async def test_a_header_made_to_break_its_reader_is_refused(mint, verifier, header):
    assert await find_refusal(verifier, sign(mint, header)) == "TOKEN_INVALID"


async def test_claims_made_to_break_their_reader_are_refused(mint, verifier):
    good = json.dumps({"typ": "at+jwt", "alg": "EdDSA", "kid": mint.kid})
    for name, payload in claims(mint):
        reason = await find_refusal(verifier, sign(mint, good, payload))
        assert reason in {"TOKEN_INVALID", "TOKEN_EXPIRED"}, name


async def test_a_call_with_such_a_token_is_unauthenticated_and_no_incident(edge, caplog):
    caplog.set_level(logging.INFO)
    channel = await edge.plain()
    for name, header in headers():
        caplog.clear()
        metadata = [("authorization", f"Bearer {sign(edge.mint, header)}")]
        code, rich = await edge.failure(edge.call(channel, "Unary", metadata=metadata))
        assert code == "UNAUTHENTICATED", name
        assert b"TOKEN_INVALID" in rich.details[0].value, name
        assert len(caplog.records) <= 1, name
        assert not any(record.exc_info for record in caplog.records), name
    assert not edge.echo.calls


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["typ", "alg", "kid", "crit", "b64", "jwk", "x5c", "zip"]),
            inner | st.sampled_from(["at+jwt", "EdDSA", "key-1"]),
        )
    ),
    max_leaves=12,
)


@given(JSON.map(json.dumps) | st.text(max_size=60), JSON.map(json.dumps) | st.binary(max_size=60))
def test_no_token_of_any_shape_is_accepted_or_breaks_its_reader(header, payload):
    mint = Mint()

    async def verified():
        async def jwks():
            return mint.jwks()

        verifier = Verifier(jwks)
        await verifier.load()
        return await find_refusal(verifier, sign(mint, header, payload))

    assert asyncio.run(verified()) in {"TOKEN_INVALID", "TOKEN_EXPIRED"}
