"""Access tokens: JWTs signed with Ed25519, which every service verifies."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import OKPAlgorithm
from typing_extensions import override

from auth.domain import Grant
from auth.usecases.ports import Signer
from chassis.base.errors import FailedPreconditionError
from chassis.identity.tokens import AUDIENCE, ISSUER, TOKEN_TYPE

_PEM = re.compile(r"-----BEGIN PRIVATE KEY-----.+?-----END PRIVATE KEY-----", re.DOTALL)


class Ed25519Signer(Signer):
    """Signs with the first of its keys and publishes all of them.

    To rotate, append the new key, wait until every process has fetched it (ten minutes), move it to
    the front, and remove the old key when its last token has expired.

    Args:
        pem: one or more unencrypted PKCS 8 private keys.

    Raises:
        FailedPreconditionError: SIGNING_KEY_INVALID.
    """

    def __init__(self, pem: str) -> None:
        keys = [_private_key(block) for block in _PEM.findall(pem)]
        if not keys:
            raise _invalid_error()
        published = [_jwk(key) for key in keys]
        self._key = keys[0]
        self._kid = published[0]["kid"]
        self._jwks = json.dumps({"keys": published})

    @override
    def sign(self, issued: Grant) -> str:
        claims: dict[str, object] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": issued.principal,
            "tenant": issued.tenant_id,
            "key": issued.key_id,
            "scope": " ".join(issued.scopes),
            "iat": issued.issue_time,
            "nbf": issued.issue_time,
            "exp": issued.expire_time,
            "jti": issued.token_id,
        }
        if issued.labels is not None:
            claims["labels"] = list(issued.labels)
        headers = {"typ": TOKEN_TYPE, "kid": self._kid}
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers=headers)

    @override
    def jwks(self) -> str:
        return self._jwks


def _private_key(pem: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise _invalid_error() from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _invalid_error()
    return key


def _jwk(key: Ed25519PrivateKey) -> Mapping[str, str]:
    """The public key; its id is its RFC 7638 thumbprint."""
    public = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    canonical = json.dumps(
        {name: public[name] for name in ("crv", "kty", "x")}, separators=(",", ":"), sort_keys=True
    )
    digest = hashlib.sha256(canonical.encode()).digest()
    kid = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return {**public, "kid": kid, "use": "sig", "alg": "EdDSA"}


def _invalid_error() -> FailedPreconditionError:
    return FailedPreconditionError(
        "SIGNING_KEY_INVALID",
        "the signing key is not an Ed25519 private key in PEM; correct AQUIFER_AUTH_SIGNING_KEY",
    )
