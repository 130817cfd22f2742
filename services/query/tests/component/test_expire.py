"""What is older than the retention is removed with its texts, whoever removes it."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from aquifer.query.v1 import conversation_service_pb2 as pb
from chassis.identity.tokens import Caller, admit
from query.conversation_rpc import ConversationRpc
from query.store.exchanges import PostgresExchanges
from query.usecases import expire_exchanges
from query.usecases.expire_exchanges import EXPIRED, ExpireExchanges

DAY = timedelta(days=1)


@pytest.fixture
async def rpc(world):
    caller = Caller(
        tenant="acme",
        principal="user:ada",
        key_id="k",
        scopes=frozenset({"ask"}),
        expires_at=0.0,
        labels=None,
    )
    admit(caller, "token")
    await world.deliver(world.embedded("the impeller wears out"))
    return ConversationRpc(conversations=world.conversations, send=world.send)


def make_expire(world, days: int = 30) -> ExpireExchanges:
    return ExpireExchanges(
        exchanges=world.exchanges,
        retention=days * DAY,
        clock=lambda: datetime.now(UTC),
    )


async def converse(rpc, *questions: str) -> str:
    created = await rpc.CreateConversation(pb.CreateConversationRequest(), None)
    for question in questions:
        request = pb.SendMessageRequest(parent=created.name, question=question)
        async for _ in rpc.SendMessage(request, None):
            pass
    return created.name


async def ask(world, question: str) -> None:
    async for _ in world.ask.run(world.inquiry(question), "trace"):
        pass


def age(world, days: int, name: str = "") -> None:
    """Makes a conversation, or everything, older."""
    ago = f"now() - interval '{days} days'"
    one = f"conversation_id = '{name.rpartition('/')[2]}'" if name else "true"
    world.everything.execute(f"UPDATE conversations SET active_at = {ago} WHERE {one}")
    own = f"answer_id IN (SELECT answer_id FROM messages WHERE {one})" if name else "true"
    world.everything.execute(f"UPDATE answers SET created_at = {ago} WHERE {own}")


def questions(world) -> set[str]:
    return {row["question"] for row in world.rows("answers")}


async def test_what_is_old_goes_with_its_text(world, rpc):
    old = await converse(rpc, "impeller of old", "impeller again")
    await ask(world, "impeller alone of old")
    age(world, 31)
    await converse(rpc, "impeller of now")
    await ask(world, "impeller alone of now")
    await make_expire(world).run()
    assert questions(world) == {"impeller of now", "impeller alone of now"}
    stored = "".join(
        str(world.rows(table)) for table in ("conversations", "messages", "answers", "outbox")
    )
    assert "of old" not in stored
    assert "again" not in stored
    assert old.rpartition("/")[2] not in stored
    assert len(world.rows("answer_sources")) == 2


async def test_a_conversation_in_use_keeps_its_old_answers(world, rpc):
    name = await converse(rpc, "impeller of old")
    age(world, 31)
    request = pb.SendMessageRequest(parent=name, question="impeller of now")
    async for _ in rpc.SendMessage(request, None):
        pass
    await make_expire(world).run()
    assert questions(world) == {"impeller of old", "impeller of now"}
    assert len(world.rows("messages")) == 4


async def test_an_empty_conversation_goes_too(world, rpc):
    await converse(rpc)
    age(world, 31)
    await make_expire(world).run()
    assert world.rows("conversations") == []


async def test_batches_and_processes_share_the_work(world, rpc, monkeypatch):
    """Conversations, answers alone, and between them old answers of a conversation in use."""
    monkeypatch.setattr(expire_exchanges, "CONVERSATIONS", 2)
    monkeypatch.setattr(expire_exchanges, "ANSWERS", 2)
    kept = await converse(rpc, "kept one", "kept two", "kept three")
    for number in range(5):
        await converse(rpc, f"impeller {number}")
        await ask(world, f"alone {number}")
    age(world, 31)
    world.everything.execute(
        "UPDATE conversations SET active_at = now() WHERE conversation_id = %s",
        [kept.rpartition("/")[2]],
    )
    before = [EXPIRED.labels(kind)._value.get() for kind in ("conversation", "answer")]
    await asyncio.gather(*(make_expire(world).run() for _ in range(3)))
    await make_expire(world).run()
    after = [EXPIRED.labels(kind)._value.get() for kind in ("conversation", "answer")]
    assert questions(world) == {"kept one", "kept two", "kept three"}
    assert [now - then for then, now in zip(before, after, strict=True)] == [5, 5]


async def test_a_conversation_that_is_being_used_is_left(world, rpc):
    """A new message holds the lock of its conversation until it is stored."""
    name = await converse(rpc, "impeller of old")
    age(world, 31)
    exchanges = PostgresExchanges(world.database)
    long_ago = datetime.now(UTC) - 30 * DAY
    async with world.database.transaction("acme") as tx:
        await tx.execute("SELECT FROM conversations FOR UPDATE")
        assert await exchanges.remove_conversations("acme", long_ago, 10) == 0
        await tx.execute("UPDATE conversations SET active_at = now()")
    assert await exchanges.remove_conversations("acme", long_ago, 10) == 0
    found = await rpc.GetConversation(pb.GetConversationRequest(name=name), None)
    assert found.message_count == 2


async def test_every_tenant_is_swept(world, rpc):
    for tenant in ("acme", "globex"):
        async for _ in world.ask.run(world.inquiry("impeller", tenant=tenant), "trace"):
            pass
    age(world, 31)
    await make_expire(world).run()
    assert world.rows("answers") == []
