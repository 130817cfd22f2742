"""The gRPC door as a process has it, and tokens as auth would issue them."""

import json
import time

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aquifer.auth.v1.auth_service_pb2 import ListRevocationsResponse
from chassis.identity.revocations import Revocations, poll
from chassis.identity.tokens import Verifier
from chassis.rpc.server import create_server, server_interceptors
from ingest.rpc import ACCESS

BOTH = "documents.read documents.write"


class Tokens:
    """What auth would issue."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()

    async def jwks(self) -> str:
        public = jwt.algorithms.OKPAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return json.dumps({"keys": [{**public, "kid": "k", "alg": "EdDSA", "use": "sig"}]})

    def metadata(self, *, tenant: str = "acme", scope: str = BOTH) -> list[tuple[str, str]]:
        now = int(time.time())
        claims = {
            "iss": "aquifer.auth",
            "aud": "aquifer",
            "sub": "user:ada",
            "tenant": tenant,
            "key": "key1",
            "scope": scope,
            "iat": now,
            "nbf": now,
            "exp": now + 600,
        }
        headers = {"typ": "at+jwt", "kid": "k"}
        token = jwt.encode(claims, self.key, algorithm="EdDSA", headers=headers)
        return [("authorization", f"Bearer {token}")]


async def guarded_server(tokens: Tokens) -> grpc.aio.Server:
    """A server that admits whoever holds such a token; not yet listening."""
    revocations = Revocations(bus_connected=lambda: True)

    async def none(after: int) -> ListRevocationsResponse:
        return ListRevocationsResponse()

    await poll(revocations, none, 0, time.monotonic())
    interceptors = server_interceptors("ingest", Verifier(tokens.jwks), revocations, ACCESS)
    server, _ = await create_server(interceptors, ACCESS)
    return server
