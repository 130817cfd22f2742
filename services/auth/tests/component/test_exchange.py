"""A key is worth a token, or nothing anyone could learn from."""

import json
import logging
from datetime import timedelta
from typing import Protocol

import jwt
import pytest

from aquifer.auth.v1 import auth_service_pb2 as pb
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from auth.keys import KeyText, new_key
from auth.usecases.bootstrap import FirstKeys

Metadata = list[tuple[str, str]]


class Clock(Protocol):
    def forward(self, by: timedelta) -> None: ...


class Refusal(Protocol):
    code: str
    reason: str
    raw: bytes


class Client(Protocol):
    stub: AuthServiceStub
    first: FirstKeys

    async def operator(self) -> Metadata: ...
    async def refusal(self, call: object) -> Refusal: ...


async def exchange(client: Client, api_key: str) -> pb.ExchangeTokenResponse:
    return await client.stub.ExchangeToken(pb.ExchangeTokenRequest(api_key=api_key))


async def made_key(client: Client, **request: object) -> pb.CreateApiKeyResponse:
    wanted = {"display_name": "a key", "scopes": ["search"]} | request
    return await client.stub.CreateApiKey(
        pb.CreateApiKeyRequest(**wanted),  # type: ignore[arg-type]
        metadata=await client.operator(),
    )


async def test_token_says_what_the_key_may(client: Client) -> None:
    key = await made_key(client, scopes=["search", "ask", "ask"], valid_days=1)
    answer = await exchange(client, key.api_key)
    claims = jwt.decode(answer.access_token, options={"verify_signature": False})
    assert (answer.tenant, list(answer.scopes)) == ("default", ["ask", "search"])
    assert (claims["tenant"], claims["key"], claims["scope"]) == (
        "default",
        key.key.key_id,
        "ask search",
    )
    assert claims["sub"] == f"key:{key.key.key_id}"
    assert claims["exp"] == answer.expire_time.seconds == claims["iat"] + 600


async def test_two_tokens_of_a_key_differ(client: Client) -> None:
    tokens = {
        (await exchange(client, client.first.operator.reveal())).access_token for _ in range(3)
    }
    ids = {jwt.decode(one, options={"verify_signature": False})["jti"] for one in tokens}
    assert len(ids) == 3


async def test_service_key_is_of_the_system(client: Client) -> None:
    answer = await exchange(client, client.first.services["query"].reveal())
    claims = jwt.decode(answer.access_token, options={"verify_signature": False})
    assert (answer.tenant, claims["sub"]) == ("system", "query")
    assert list(answer.scopes) == ["internal", "models"]


async def test_all_that_is_no_key_is_answered_alike(client: Client) -> None:
    real = client.first.operator
    attempts = [
        "",
        "x",
        "aqf_",
        real.reveal()[:-1],
        real.reveal() + " ",
        real.reveal().swapcase(),
        "k" * 100_000,
        new_key().reveal(),
        KeyText(real.key_id, new_key().secret).reveal(),
        KeyText(client.first.services["query"].key_id, real.secret).reveal(),
    ]
    answers = [await client.refusal(exchange(client, attempt)) for attempt in attempts]
    assert {answer.raw for answer in answers} == {answers[0].raw}
    assert (answers[0].code, answers[0].reason) == ("UNAUTHENTICATED", "KEY_INVALID")


async def test_expired_key_says_so_to_its_holder_alone(client: Client, clock: Clock) -> None:
    key = await made_key(client, valid_days=1)
    clock.forward(timedelta(days=1))
    wrong = KeyText(key.key.key_id, new_key().secret).reveal()
    assert (await client.refusal(exchange(client, key.api_key))).reason == "KEY_EXPIRED"
    assert (await client.refusal(exchange(client, wrong))).reason == "KEY_INVALID"


async def test_token_ends_with_its_key(client: Client, clock: Clock) -> None:
    key = await made_key(client, valid_days=1)
    clock.forward(timedelta(days=1, minutes=-3))
    answer = await exchange(client, key.api_key)
    assert answer.expire_time.seconds == key.key.expire_time.seconds
    claims = jwt.decode(answer.access_token, options={"verify_signature": False})
    assert 179 <= claims["exp"] - claims["iat"] <= 180


async def test_revoked_key_says_so_to_its_holder_alone(client: Client) -> None:
    key = await made_key(client)
    await client.stub.RevokeApiKey(
        pb.RevokeApiKeyRequest(key_id=key.key.key_id), metadata=await client.operator()
    )
    wrong = KeyText(key.key.key_id, new_key().secret).reveal()
    refusal = await client.refusal(exchange(client, key.api_key))
    assert (refusal.code, refusal.reason) == ("UNAUTHENTICATED", "KEY_REVOKED")
    assert (await client.refusal(exchange(client, wrong))).reason == "KEY_INVALID"


async def test_suspended_tenant_gets_no_token(client: Client) -> None:
    operator = await client.operator()
    await client.make_tenant("acme")
    key = await made_key(client, tenant="acme")
    await client.stub.SuspendTenant(pb.SuspendTenantRequest(tenant="acme"), metadata=operator)
    refusal = await client.refusal(exchange(client, key.api_key))
    assert (refusal.code, refusal.reason) == ("UNAUTHENTICATED", "TENANT_SUSPENDED")


async def test_published_keys_are_public(client: Client) -> None:
    answer = await client.stub.GetJwks(pb.GetJwksRequest())
    [key] = json.loads(answer.keys_json)["keys"]
    header = jwt.get_unverified_header(
        (await exchange(client, client.first.operator.reveal())).access_token
    )
    assert header["kid"] == key["kid"]


async def test_no_key_and_no_token_is_ever_logged(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = await made_key(client)
    token = (await exchange(client, key.api_key)).access_token
    wrong = KeyText(key.key.key_id, new_key().secret)
    for bad in (wrong.reveal(), key.api_key[:-1]):
        await client.refusal(exchange(client, bad))
    logged = "\n".join(str(vars(record)) for record in caplog.records)
    assert "key.refused" in logged
    secret = key.api_key.split("_")[2]
    assert not any(text in logged for text in (secret, wrong.secret, token))
