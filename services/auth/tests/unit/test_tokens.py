"""Tokens say what was granted and verify with the published keys alone."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from auth.domain import Grant
from auth.tokens import Ed25519Signer
from chassis.base.errors import FailedPreconditionError, UnauthenticatedError
from chassis.identity.tokens import Verifier

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
GRANT = Grant(
    token_id="token-1",
    tenant_id="acme",
    principal="key:k",
    key_id="k" * 16,
    scopes=("ask", "search"),
    labels=None,
    issue_time=NOW,
    expire_time=NOW + timedelta(minutes=10),
)


def pem(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def fresh(labels: tuple[str, ...] | None = None) -> Grant:
    now = datetime.now(UTC).replace(microsecond=0)
    return Grant(
        token_id="t",
        tenant_id="acme",
        principal="key:k",
        key_id="k" * 16,
        scopes=("ask",),
        labels=labels,
        issue_time=now,
        expire_time=now + timedelta(minutes=10),
    )


def verifier(jwks: Callable[[], str]) -> Verifier:
    async def fetch() -> str:
        return jwks()

    return Verifier(fetch)


def test_kid_is_the_thumbprint_of_rfc_8037() -> None:
    secret = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    signer = Ed25519Signer(pem(Ed25519PrivateKey.from_private_bytes(secret)))
    [key] = json.loads(signer.jwks())["keys"]
    assert key == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        "use": "sig",
        "alg": "EdDSA",
    }
    assert jwt.get_unverified_header(signer.sign(GRANT)) == {
        "alg": "EdDSA",
        "typ": "at+jwt",
        "kid": key["kid"],
    }


def test_claims_are_the_grant_and_nothing_else() -> None:
    signer = Ed25519Signer(pem(Ed25519PrivateKey.generate()))
    claims = jwt.decode(signer.sign(GRANT), options={"verify_signature": False})
    assert claims == {
        "iss": "aquifer.auth",
        "aud": "aquifer",
        "sub": "key:k",
        "tenant": "acme",
        "key": "k" * 16,
        "scope": "ask search",
        "iat": int(NOW.timestamp()),
        "nbf": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 600,
        "jti": "token-1",
    }


async def test_every_service_reads_the_token() -> None:
    signer = Ed25519Signer(pem(Ed25519PrivateKey.generate()))
    caller = await verifier(signer.jwks).verify(signer.sign(fresh()))
    assert (caller.tenant, caller.principal, caller.key_id) == ("acme", "key:k", "k" * 16)
    assert caller.scopes == {"ask"}
    assert caller.labels is None


@pytest.mark.parametrize("labels", [(), ("hr",), ("eng", "hr")])
async def test_every_service_reads_the_labels(labels: tuple[str, ...]) -> None:
    signer = Ed25519Signer(pem(Ed25519PrivateKey.generate()))
    caller = await verifier(signer.jwks).verify(signer.sign(fresh(labels)))
    assert caller.labels == frozenset(labels)


async def test_another_issuer_is_refused() -> None:
    ours, other = (Ed25519Signer(pem(Ed25519PrivateKey.generate())) for _ in range(2))
    with pytest.raises(UnauthenticatedError):
        await verifier(ours.jwks).verify(other.sign(fresh()))


async def test_change_of_keys_refuses_no_token() -> None:
    old, new = (pem(Ed25519PrivateKey.generate()) for _ in range(2))
    before, announced, changed = (
        Ed25519Signer(old),
        Ed25519Signer(old + new),
        Ed25519Signer(new + old),
    )
    for signer in (before, announced, changed):
        await verifier(announced.jwks).verify(signer.sign(fresh()))
        await verifier(changed.jwks).verify(signer.sign(fresh()))


def test_private_half_is_not_published() -> None:
    signer = Ed25519Signer(pem(Ed25519PrivateKey.generate()))
    assert all("d" not in key for key in json.loads(signer.jwks())["keys"])


BAD = [
    "",
    "not a key",
    "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
    generate_private_key(SECP256R1())
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode(),
    Ed25519PrivateKey.generate()
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    .decode(),
]


@pytest.mark.parametrize("text", BAD)
def test_other_keys_are_refused(text: str) -> None:
    with pytest.raises(FailedPreconditionError) as refused:
        Ed25519Signer(text)
    assert refused.value.reason == "SIGNING_KEY_INVALID"
