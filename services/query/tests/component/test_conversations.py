"""Conversations: their settings, pages and owners, over the methods of the service."""

import uuid
from datetime import UTC, datetime

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from aquifer.query.v1 import conversation_service_pb2 as pb
from chassis.base import paging
from chassis.base.errors import FailedPreconditionError, InvalidInputError, NotFoundError
from chassis.identity.tokens import Caller, admit
from query import conversation
from query.conversation_rpc import ACCESS, ConversationRpc
from query.store import conversations as store


def sign_in(tenant: str = "acme", principal: str = "user:ada", labels=None) -> None:
    caller = Caller(
        tenant=tenant,
        principal=principal,
        key_id="k",
        scopes=frozenset({"ask"}),
        expires_at=0.0,
        labels=labels,
    )
    admit(caller, "token")


@pytest.fixture
async def rpc(world):
    # Asynchronous, so that pytest takes back the caller after the test.
    sign_in()
    return ConversationRpc(conversations=world.conversations, send=world.send)


async def create(rpc, **settings) -> pb.Conversation:
    request = pb.CreateConversationRequest(conversation=pb.Conversation(**settings))
    return await rpc.CreateConversation(request, None)


async def send(rpc, conversation: pb.Conversation, question: str = "impeller", request_id=""):
    request = pb.SendMessageRequest(
        parent=conversation.name, question=question, request_id=request_id
    )
    return [step async for step in rpc.SendMessage(request, None)]


async def list_all(rpc, **options) -> list[pb.Conversation]:
    """All pages of a size."""
    found, token = [], ""
    while True:
        page = await rpc.ListConversations(
            pb.ListConversationsRequest(page_token=token, **options), None
        )
        found += page.conversations
        token = page.next_page_token
        if not token:
            return found


async def refusal(kind, call) -> str:
    with pytest.raises(kind) as refused:
        await call
    return refused.value.reason


def test_every_method_has_its_scope():
    service = pb.DESCRIPTOR.services_by_name["ConversationService"]
    assert set(ACCESS) == {f"{service.full_name}/{method.name}" for method in service.methods}
    assert set(ACCESS.values()) == {frozenset({"ask"})}


async def test_a_conversation_has_the_settings_it_was_given(rpc):
    settings = {
        "title": "Pumps",
        "model": "writer",
        "collection": "manuals",
        "collections": ["letters", "minutes"],
        "filter": "metadata.year >= 2020",
        "max_output_tokens": 100,
        "prompt": "prompts/support@3",
    }
    created = await create(rpc, **settings)
    found = await rpc.GetConversation(pb.GetConversationRequest(name=created.name), None)
    assert found == created
    assert {name: getattr(found, name) for name in settings} == settings
    assert found.create_time == found.update_time == found.activity_time
    age = datetime.now(UTC) - found.create_time.ToDatetime(tzinfo=UTC)
    assert abs(age.total_seconds()) < 60
    assert (found.message_count, list(found.last_messages)) == (0, [])


async def test_an_update_changes_what_its_mask_names(rpc):
    created = await create(rpc, title="Pumps", model="writer", collection="manuals")
    given = pb.Conversation(name=created.name, title="Wells", max_output_tokens=7)
    changed = await rpc.UpdateConversation(
        pb.UpdateConversationRequest(
            conversation=given, update_mask=FieldMask(paths=["title", "max_output_tokens"])
        ),
        None,
    )
    assert (changed.title, changed.model, changed.collection) == ("Wells", "writer", "manuals")
    assert changed.max_output_tokens == 7
    assert changed.update_time.ToNanoseconds() > created.update_time.ToNanoseconds()
    assert changed.activity_time == created.activity_time
    for paths in ([], ["*"]):
        whole = pb.UpdateConversationRequest(conversation=given, update_mask=FieldMask(paths=paths))
        changed = await rpc.UpdateConversation(whole, None)
        assert (changed.title, changed.model, changed.collection) == ("Wells", "", "")
    again = await rpc.UpdateConversation(whole, None)
    assert again == changed


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"title": "x" * 201}, "CONVERSATION_RANGE"),
        ({"title": "a\0b"}, "CONVERSATION_RANGE"),
        ({"model": "x" * 257}, "CONVERSATION_RANGE"),
        ({"max_output_tokens": -1}, "CONVERSATION_RANGE"),
        ({"max_output_tokens": 32_769}, "CONVERSATION_RANGE"),
        ({"prompt": "support"}, "CONVERSATION_RANGE"),
        ({"collection": "a/b"}, "COLLECTION_NAME"),
        ({"collections": ["a", "a/b"]}, "COLLECTION_NAME"),
        ({"collections": ["a"], "collection": "a"}, "COLLECTIONS_COUNT"),
        ({"filter": "impeller"}, "FILTER_INVALID"),
    ],
)
async def test_settings_out_of_range_are_refused(world, rpc, settings, reason):
    assert await refusal(InvalidInputError, create(rpc, **settings)) == reason
    assert world.rows("conversations") == []
    created = await create(rpc)
    given = pb.Conversation(name=created.name, **settings)
    update = rpc.UpdateConversation(pb.UpdateConversationRequest(conversation=given), None)
    assert await refusal(InvalidInputError, update) == reason


async def test_a_mask_names_settings_only(rpc):
    created = await create(rpc)
    request = pb.UpdateConversationRequest(
        conversation=created, update_mask=FieldMask(paths=["message_count"])
    )
    assert await refusal(InvalidInputError, rpc.UpdateConversation(request, None)) == "UPDATE_MASK"


async def test_a_deleted_conversation_takes_its_answers_along(world, rpc):
    await world.deliver(world.embedded("the impeller wears out"))
    gone, kept = await create(rpc), await create(rpc)
    await send(rpc, gone)
    [step, *_] = await send(rpc, kept)
    await rpc.DeleteConversation(pb.DeleteConversationRequest(name=gone.name), None)
    assert [str(row["answer_id"]) for row in world.rows("answers")] == [step.started.answer_id]
    assert len(world.rows("messages")) == 2
    assert len(world.rows("answer_sources")) == 1
    assert [one.name for one in await list_all(rpc)] == [kept.name]


async def all_refused(rpc, name: str) -> set[str]:
    """What each method that names a conversation answers."""
    calls = [
        rpc.GetConversation(pb.GetConversationRequest(name=name), None),
        rpc.UpdateConversation(
            pb.UpdateConversationRequest(conversation=pb.Conversation(name=name)), None
        ),
        rpc.DeleteConversation(pb.DeleteConversationRequest(name=name), None),
        rpc.ListMessages(pb.ListMessagesRequest(parent=name), None),
        send(rpc, pb.Conversation(name=name)),
    ]
    return {await refusal(NotFoundError, call) for call in calls}


@pytest.mark.parametrize(
    ("tenant", "principal"), [("acme", "user:bob"), ("globex", "user:ada"), ("globex", "user:bob")]
)
async def test_nobody_else_knows_a_conversation(world, rpc, tenant, principal):
    created = await create(rpc, title="mine")
    await send(rpc, created)
    sign_in(tenant, principal)
    assert await all_refused(rpc, created.name) == {"CONVERSATION_UNKNOWN"}
    assert await list_all(rpc) == []
    sign_in()
    found = await rpc.GetConversation(pb.GetConversationRequest(name=created.name), None)
    assert (found.title, found.message_count) == ("mine", 2)


@pytest.mark.parametrize("name", ["", "x", "conversations/x", f"conversations/{uuid.UUID(int=7)}"])
async def test_a_conversation_that_is_not_there_is_unknown(rpc, name):
    assert await all_refused(rpc, name) == {"CONVERSATION_UNKNOWN"}


async def test_pages_go_from_the_newest_activity_to_the_oldest(world, rpc):
    made = [await create(rpc, title=str(number)) for number in range(7)]
    await send(rpc, made[2])
    await send(rpc, made[0])
    expected = ["0", "2", "6", "5", "4", "3", "1"]
    for size in (1, 2, 3, 7, 100):
        assert [one.title for one in await list_all(rpc, page_size=size)] == expected


async def test_conversations_of_the_same_moment_are_each_listed_once(world, rpc):
    for _ in range(5):
        await create(rpc)
    world.everything.execute("UPDATE conversations SET active_at = '2026-01-01T00:00:00Z'")
    names = [one.name for one in await list_all(rpc, page_size=2)]
    assert (len(names), len(set(names))) == (5, 5)


async def test_a_page_comes_with_the_last_messages(world, rpc):
    await world.deliver(world.embedded("the impeller wears out"))
    quiet, busy = await create(rpc), await create(rpc)
    for question in ("impeller one", "impeller two"):
        await send(rpc, busy, question)
    for count, numbers in ((0, []), (1, ["4"]), (3, ["2", "3", "4"])):
        found = await list_all(rpc, messages_per_conversation=count)
        assert [one.name for one in found] == [busy.name, quiet.name]
        assert list(found[1].last_messages) == []
        assert [one.name.rpartition("/")[2] for one in found[0].last_messages] == numbers
    given, asked, last = found[0].last_messages
    assert (given.role, asked.role) == (pb.MESSAGE_ROLE_ASSISTANT, pb.MESSAGE_ROLE_USER)
    assert asked.text == "impeller two"
    assert given.text == last.text
    assert given.text.startswith("The documents say: ")


async def test_the_text_of_last_messages_is_cut(world, rpc):
    created = await create(rpc)
    question = "impeller " * 400
    await send(rpc, created, question)
    [listed] = await list_all(rpc, messages_per_conversation=2)
    assert listed.last_messages[0].text == question[: store.LAST_MESSAGE_CHARS]
    messages = (await rpc.ListMessages(pb.ListMessagesRequest(parent=created.name), None)).messages
    assert messages[0].text == question


@pytest.mark.parametrize("count", [-1, 11])
async def test_a_list_has_a_bounded_number_of_messages(rpc, count):
    request = pb.ListConversationsRequest(messages_per_conversation=count)
    assert (
        await refusal(InvalidInputError, rpc.ListConversations(request, None)) == "MESSAGES_RANGE"
    )


FOREIGN = paging.Page(size=1, after=(), bound=())


@pytest.mark.parametrize(
    "token",
    [
        "x",
        FOREIGN.make_token("a"),
        FOREIGN.make_token("yesterday", str(uuid.UUID(int=1))),
        FOREIGN.make_token("2026-01-01T00:00:00", str(uuid.UUID(int=1))),
        FOREIGN.make_token("2026-01-01T00:00:00+00:00", "x"),
    ],
)
async def test_an_invented_token_of_conversations_is_refused(rpc, token):
    request = pb.ListConversationsRequest(page_token=token)
    assert (
        await refusal(InvalidInputError, rpc.ListConversations(request, None))
        == "PAGE_TOKEN_INVALID"
    )


@pytest.mark.parametrize("number", ["", "-1", "x", "9" * 10])
async def test_an_invented_token_of_messages_is_refused(rpc, number):
    created = await create(rpc)
    token = FOREIGN.make_token(number)
    request = pb.ListMessagesRequest(parent=created.name, page_token=token)
    assert await refusal(InvalidInputError, rpc.ListMessages(request, None)) == "PAGE_TOKEN_INVALID"


async def test_a_page_size_out_of_range_is_refused(rpc):
    created = await create(rpc)
    messages = pb.ListMessagesRequest(parent=created.name, page_size=1_001)
    listed = pb.ListConversationsRequest(page_size=-1)
    for call in (rpc.ListMessages(messages, None), rpc.ListConversations(listed, None)):
        assert await refusal(InvalidInputError, call) == "PAGE_SIZE_RANGE"


async def test_pages_of_messages_are_in_order(world, rpc):
    created = await create(rpc)
    for number in range(3):
        await send(rpc, created, f"question {number}")
    found, token = [], ""
    while True:
        page = await rpc.ListMessages(
            pb.ListMessagesRequest(parent=created.name, page_size=4, page_token=token), None
        )
        found += page.messages
        token = page.next_page_token
        if not token:
            break
    assert [one.name for one in found] == [f"{created.name}/messages/{n}" for n in range(1, 7)]
    assert [one.text for one in found if one.role == pb.MESSAGE_ROLE_USER] == [
        f"question {number}" for number in range(3)
    ]
    assert all(one.answer_id for one in found if one.role == pb.MESSAGE_ROLE_ASSISTANT)


async def test_a_page_is_shorter_than_a_message_of_the_transport(world, rpc):
    created = await create(rpc)
    await send(rpc, created)
    world.everything.execute("UPDATE answers SET text = repeat('\N{DROPLET}', 100000)")
    answer_id = world.rows("answers")[0]["answer_id"]
    world.everything.execute(
        "INSERT INTO messages SELECT tenant_id, conversation_id, 2 + n, NULL, NULL, %s"
        " FROM messages, generate_series(1, 20) AS n WHERE number = 1",
        [answer_id],
    )
    found, token, pages = [], "", 0
    while pages == 0 or token:
        page = await rpc.ListMessages(
            pb.ListMessagesRequest(parent=created.name, page_token=token), None
        )
        assert page.ByteSize() < paging.PAGE_MAX_BYTES + 1_000
        found += page.messages
        token, pages = page.next_page_token, pages + 1
    assert [one.name.rpartition("/")[2] for one in found] == [str(n) for n in range(1, 23)]
    assert pages == 3


async def test_an_update_names_no_collection_a_second_time(rpc):
    created = await create(rpc, collection="manuals", collections=["letters"])

    async def update(path: str, **settings) -> pb.Conversation:
        given = pb.Conversation(name=created.name, **settings)
        mask = FieldMask(paths=[path])
        request = pb.UpdateConversationRequest(conversation=given, update_mask=mask)
        return await rpc.UpdateConversation(request, None)

    changed = await update("collections", collections=["letters", "minutes"])
    assert (changed.collection, list(changed.collections)) == ("manuals", ["letters", "minutes"])
    again = update("collections", collections=["manuals"])
    assert await refusal(InvalidInputError, again) == "COLLECTIONS_COUNT"
    again = update("collection", collection="letters")
    assert await refusal(InvalidInputError, again) == "COLLECTIONS_COUNT"
    assert list((await update("collections")).collections) == []


async def test_a_principal_has_a_bounded_number_of_conversations(world, rpc, monkeypatch):
    monkeypatch.setattr(store, "CONVERSATIONS_MAX", 2)
    await create(rpc)
    await create(rpc)
    assert await refusal(FailedPreconditionError, create(rpc)) == "CONVERSATIONS_FULL"
    sign_in(principal="user:bob")
    assert await create(rpc)


FILL = """
INSERT INTO conversations (tenant_id, conversation_id, principal, title, model, collection, filter,
                           max_output_tokens, message_count, active_at)
SELECT 'acme', md5(n::text)::uuid, 'user:ada', 'n', '', '', '', 0, 40,
       '2026-01-01T00:20:00Z'::timestamptz - n * interval '1 s'
FROM generate_series(1, 2000) AS n
"""
FILL_MESSAGES = """
INSERT INTO messages (tenant_id, conversation_id, number, question)
SELECT tenant_id, conversation_id, n, 'q' FROM conversations, generate_series(1, 40) AS n
"""


@pytest.mark.parametrize("start", ["infinity", "2026-01-01T00:00:00Z"])
async def test_a_page_reads_no_more_rows_than_it_shows(world, rpc, start):
    world.everything.execute(FILL)
    world.everything.execute(FILL_MESSAGES)
    world.everything.execute("ANALYZE conversations, messages")
    values = {
        "tenant": "acme",
        "principal": "user:ada",
        "held": None,
        "time": start,
        "conversation_id": uuid.UUID(int=0),
        "limit": 21,
        "messages": 3,
        "chars": 1_000,
    }
    read = {"conversations": 0.0, "messages": 0.0}
    async with world.database.transaction("acme") as tx:
        statement = b"EXPLAIN (ANALYZE, FORMAT JSON) " + store.statements.LIST
        row = await (await tx.execute(statement, values)).fetchone()
    for node in walk(row["QUERY PLAN"][0]["Plan"]):
        if node.get("Relation Name") in read:
            removed = node.get("Rows Removed by Filter", 0)
            rows = (node["Actual Rows"] + removed) * node["Actual Loops"]
            read[node["Relation Name"]] += rows
    assert read == {"conversations": 21, "messages": 63}


def walk(node: dict):
    yield node
    for child in node.get("Plans", ()):
        yield from walk(child)


def test_a_title_is_the_start_of_a_question():
    assert conversation.make_title(" How deep\n is it? ") == "How deep is it?"
    long = "impeller " * 20
    assert conversation.make_title(long) == "impeller " * 7 + "impeller…"
    assert conversation.make_title("x" * 100) == "x" * 80 + "…"
