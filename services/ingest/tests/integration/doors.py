"""The gRPC server as a process has it, a client, and tokens as auth would issue them."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from aquifer.auth.v1.auth_service_pb2 import ListRevocationsResponse
from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.document_pb2 import Document
from chassis.identity.revocations import Revocations, poll
from chassis.identity.tokens import Verifier
from chassis.rpc.server import create_server, server_interceptors
from ingest.rpc import ACCESS
from services.ingest.tests.conftest import NAME, Rig

Text = pb.GetDocumentTextResponse
BOTH = "documents.read documents.write"


class Tokens:
    """What auth would issue."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()

    async def jwks(self) -> str:
        public = jwt.algorithms.OKPAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return json.dumps({"keys": [{**public, "kid": "k", "alg": "EdDSA", "use": "sig"}]})

    def metadata(
        self, *, tenant: str = "acme", scope: str = BOTH, labels: str | None = None
    ) -> list[tuple[str, str]]:
        """`labels` are those of the key, separated by blanks; None: all."""
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
            **({} if labels is None else {"labels": labels.split()}),
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


@dataclass
class Client:
    stub: Any
    tokens: Tokens
    rig: Rig
    target: str

    async def upload(self, *parts: pb.UploadDocumentRequest, **who: str) -> Document:
        async def stream() -> AsyncIterator[pb.UploadDocumentRequest]:
            for part in parts:
                yield part

        return await self.stub.UploadDocument(
            stream(), metadata=self.tokens.metadata(**who), timeout=10
        )

    async def send(self, *pieces: bytes, document: str = NAME, **header: Any) -> Document:
        return await self.upload(opening(document, **header), *map(content, pieces))

    async def list_all(self, **fields: Any) -> pb.ListDocumentsResponse:
        return await self.stub.ListDocuments(
            pb.ListDocumentsRequest(**fields), metadata=self.tokens.metadata(), timeout=10
        )

    async def check(self, *checks: pb.DocumentCheck, **who: str) -> list[pb.CheckedDocument]:
        request = pb.CheckDocumentsRequest(documents=checks)
        response = await self.stub.CheckDocuments(
            request, metadata=self.tokens.metadata(**who), timeout=10
        )
        return list(response.documents)

    async def list_collections(self, **fields: Any) -> pb.ListCollectionsResponse:
        return await self.stub.ListCollections(
            pb.ListCollectionsRequest(**fields), metadata=self.tokens.metadata(), timeout=10
        )

    async def call(self, method: str, request: Any, **who: str) -> Any:
        call = getattr(self.stub, method)
        return await call(request, metadata=self.tokens.metadata(**who), timeout=10)

    async def get(self, name: str = NAME, **who: str) -> Document:
        return await self.stub.GetDocument(
            pb.GetDocumentRequest(name=name), metadata=self.tokens.metadata(**who), timeout=10
        )

    async def update(
        self, *paths: str, name: str = NAME, who: dict[str, str] | None = None, **fields: Any
    ) -> Document:
        request = pb.UpdateDocumentRequest(
            document=Document(name=name, **fields), update_mask=FieldMask(paths=paths)
        )
        return await self.stub.UpdateDocument(
            request, metadata=self.tokens.metadata(**who or {}), timeout=10
        )

    async def text(self, name: str = NAME, *, who: Any = None, **part: int) -> Text:
        request = pb.GetDocumentTextRequest(name=name, **part)
        metadata = self.tokens.metadata(**(who or {}))
        return await self.stub.GetDocumentText(request, metadata=metadata, timeout=10)

    async def read_all(self, name: str = NAME, **part: int) -> list[Text]:
        """All parts of a text, one after the other, as the contract tells clients to."""
        parts = [await self.text(name, **part)]
        while start := parts[-1].next_start:
            asked = part | {"version": parts[0].version, "start": start}
            parts.append(await self.text(name, **asked))
        return parts

    async def delete(self, name: str = NAME, **who: str) -> Document:
        return await self.stub.DeleteDocument(
            pb.DeleteDocumentRequest(name=name), metadata=self.tokens.metadata(**who), timeout=10
        )


def opening(document: str = NAME, **header: Any) -> pb.UploadDocumentRequest:
    return pb.UploadDocumentRequest(header=pb.UploadHeader(document=document, **header))


def content(piece: bytes) -> pb.UploadDocumentRequest:
    return pb.UploadDocumentRequest(content=piece)


async def refusal(call: Any) -> tuple[str, str, dict[str, Any]]:
    """Code, reason and details of a failure."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    status = rpc_status.from_call(failed.value)
    assert status is not None
    info, details = ErrorInfo(), {}
    for detail in status.details:
        if detail.Unpack(info):
            continue
        for kind in (BadRequest, RetryInfo):
            found = kind()
            if detail.Unpack(found):
                details[kind.__name__] = found
    assert info.domain == "ingest.aquifer"
    return failed.value.code().name, info.reason, details
