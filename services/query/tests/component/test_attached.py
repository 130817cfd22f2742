"""Documents of a conversation: they are searched with its collections, and grant nothing."""

from dataclasses import replace

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from aquifer.query.v1 import conversation_service_pb2 as pb
from aquifer.query.v1 import query_service_pb2 as query_pb
from chassis.base.errors import InvalidInputError
from chassis.identity.tokens import Caller, admit
from query.conversation_rpc import ConversationRpc
from query.domain import Version
from query.export_messages import to_exported
from query.labels import Labels
from query.usecases.attached import find_scope
from query.usecases.exchanges import Wanted

PUMP = "collections/manuals/documents/pump"
VALVE = "collections/manuals/documents/valve"
LETTER = "collections/letters/documents/a"
UPLOAD = "collections/attachments/documents/report"
HR = Labels(names=("hr",), order=1)


def sign_in(tenant: str = "acme", labels=None) -> None:
    caller = Caller(
        tenant=tenant,
        principal="user:ada",
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


async def update(rpc, name: str, *paths: str, **settings) -> pb.Conversation:
    given = pb.Conversation(name=name, **settings)
    request = pb.UpdateConversationRequest(
        conversation=given, update_mask=FieldMask(paths=paths or list(settings))
    )
    return await rpc.UpdateConversation(request, None)


async def send(rpc, conversation: pb.Conversation, question="impeller") -> list:
    request = pb.SendMessageRequest(parent=conversation.name, question=question)
    return [step async for step in rpc.SendMessage(request, None)]


async def find(world, rpc, conversation: pb.Conversation, question="impeller") -> set[str]:
    """The documents whose passages the model gets for a message."""
    await send(rpc, conversation, question)
    return {one.version.document for one in world.generator.prompts[-1].passages}


async def deliver_all(world, *documents: str, **options) -> None:
    for document in documents:
        await world.deliver(world.embedded(f"impeller of {document}", document=document, **options))


async def test_a_message_is_answered_from_attached_documents_alone(world, rpc):
    await deliver_all(world, PUMP, VALVE, LETTER, UPLOAD)
    conversation = await create(rpc, documents=[UPLOAD, PUMP])
    assert await find(world, rpc, conversation) == {UPLOAD, PUMP}
    everything = await create(rpc)
    assert await find(world, rpc, everything) == {PUMP, VALVE, LETTER, UPLOAD}


@pytest.mark.parametrize("settings", [{"collection": "manuals"}, {"collections": ["manuals"]}])
async def test_attached_documents_are_searched_besides_collections(world, rpc, settings):
    other = "collections/attachments/documents/other"
    await deliver_all(world, PUMP, VALVE, LETTER, UPLOAD, other)
    conversation = await create(rpc, documents=[UPLOAD], **settings)
    assert await find(world, rpc, conversation) == {PUMP, VALVE, UPLOAD}
    await update(rpc, conversation.name, documents=[UPLOAD, PUMP])
    assert await find(world, rpc, conversation) == {PUMP, VALVE, UPLOAD}


async def test_the_filter_holds_for_attached_documents_and_collections(world, rpc):
    new = "collections/attachments/documents/new"
    await deliver_all(world, PUMP, UPLOAD, metadata={"year": 2019})
    await deliver_all(world, VALVE, LETTER, new, metadata={"year": 2020})
    conversation = await create(
        rpc, documents=[UPLOAD, new], collection="manuals", filter="metadata.year = 2020"
    )
    assert await find(world, rpc, conversation) == {VALVE, new}
    await update(rpc, conversation.name, filter=f'NOT document = "{new}"')
    assert await find(world, rpc, conversation) == {PUMP, VALVE, UPLOAD}
    await update(rpc, conversation.name, filter=f'title:* AND NOT document = "{new}"')
    assert await find(world, rpc, conversation) == {PUMP, VALVE, UPLOAD}


async def test_attaching_shows_nothing_that_the_key_may_not_see(world, rpc):
    await deliver_all(world, PUMP)
    await deliver_all(world, UPLOAD, labels=HR)
    sign_in(labels=frozenset({"sales"}))
    hidden = await create(rpc, documents=[UPLOAD])
    unknown = await create(rpc, documents=["collections/attachments/documents/nobody"])
    steps = [await send(rpc, one) for one in (hidden, unknown)]
    # As for a document that does not exist.
    finished = [[one.finished for one in some if one.HasField("finished")] for some in steps]
    assert finished[0] == finished[1]
    assert [list(prompt.passages) for prompt in world.generator.prompts] == [[], []]
    sign_in(labels=frozenset({"hr"}))
    assert await find(world, rpc, hidden) == {UPLOAD}


async def test_an_attached_name_is_one_of_the_callers_tenant(world, rpc):
    await deliver_all(world, UPLOAD, PUMP, tenant="globex")
    await deliver_all(world, VALVE)
    conversation = await create(rpc, documents=[UPLOAD])
    assert await find(world, rpc, conversation) == set()
    # It is not theirs that is found then.
    await world.deliver(world.embedded("our impeller", document=UPLOAD))
    await send(rpc, conversation)
    assert [one.text for one in world.generator.prompts[-1].passages] == ["our impeller"]


async def test_a_deleted_document_is_not_found_and_its_answers_are_withheld(world, rpc):
    await deliver_all(world, UPLOAD, PUMP)
    conversation = await create(rpc, documents=[UPLOAD, PUMP])
    assert await find(world, rpc, conversation) == {UPLOAD, PUMP}
    await world.hide.run("acme", Version(document=UPLOAD, number=1))
    assert await find(world, rpc, conversation) == {PUMP}
    await world.purge(1, document=UPLOAD)
    assert await find(world, rpc, conversation) == {PUMP}
    found = await rpc.GetConversation(pb.GetConversationRequest(name=conversation.name), None)
    assert list(found.documents) == [UPLOAD, PUMP]


async def test_a_document_attached_before_it_is_indexed_is_found_once_it_is(world, rpc):
    conversation = await create(rpc, documents=[UPLOAD])
    assert await find(world, rpc, conversation) == set()
    await deliver_all(world, UPLOAD)
    assert await find(world, rpc, conversation) == {UPLOAD}


async def test_a_hundred_documents_are_searched(world, rpc):
    names = [f"collections/c{n % 7}/documents/d{n}" for n in range(100)]
    await deliver_all(world, *names[::20], PUMP, LETTER, "collections/c0/documents/other")
    conversation = await create(rpc, documents=names, filter="version = 1")
    assert await find(world, rpc, conversation) == set(names[::20])
    await update(rpc, conversation.name, collections=["letters"])
    assert await find(world, rpc, conversation) == {*names[::20], LETTER}


async def test_documents_of_more_collections_than_a_search_names_are_searched(world, rpc):
    names = [f"collections/c{n}/documents/d" for n in range(100)]
    await deliver_all(world, names[99], PUMP, LETTER, "collections/c99/documents/other")
    conversation = await create(rpc, documents=names, collections=["letters"])
    assert await find(world, rpc, conversation) == {names[99], LETTER}


async def test_a_citation_names_an_attached_document(world, rpc):
    await deliver_all(world, UPLOAD, PUMP)
    conversation = await create(rpc, documents=[UPLOAD])
    cited = [one.citation for one in await send(rpc, conversation) if one.HasField("citation")]
    assert {one.passage.document for one in cited} == {UPLOAD}


REFUSED = [
    (["collections/manuals"], "DOCUMENT_NAME", "documents[0]"),
    ([PUMP, "pump"], "DOCUMENT_NAME", "documents[1]"),
    ([""], "DOCUMENT_NAME", "documents[0]"),
    ([f"{PUMP}\n"], "DOCUMENT_NAME", "documents[0]"),
    ([PUMP, VALVE, PUMP], "DOCUMENTS_COUNT", "documents"),
    ([f"{PUMP}{n}" for n in range(101)], "DOCUMENTS_COUNT", "documents"),
]


@pytest.mark.parametrize(("documents", "reason", "field"), REFUSED)
async def test_documents_out_of_range_are_refused(world, rpc, documents, reason, field):
    created = await create(rpc, documents=[LETTER])
    for call in (create(rpc, documents=documents), update(rpc, created.name, documents=documents)):
        with pytest.raises(InvalidInputError) as refused:
            await call
        assert refused.value.reason == reason
        assert [one.field for one in refused.value.fields] == [field]
    [kept] = world.rows("conversations")
    assert kept["documents"] == [LETTER]


async def test_documents_are_kept_listed_and_changed_by_their_mask(rpc):
    created = await create(rpc, title="Pumps", documents=[UPLOAD, PUMP])
    assert list(created.documents) == [UPLOAD, PUMP]
    found = await rpc.GetConversation(pb.GetConversationRequest(name=created.name), None)
    assert found == created
    other = await create(rpc)
    token, listed = "", []
    while not listed or token:
        request = pb.ListConversationsRequest(page_size=1, page_token=token)
        page = await rpc.ListConversations(request, None)
        listed += page.conversations
        token = page.next_page_token
    assert listed == [other, created]
    changed = await update(rpc, created.name, "title", title="Wells", documents=[LETTER])
    assert (changed.title, list(changed.documents)) == ("Wells", [UPLOAD, PUMP])
    changed = await update(rpc, created.name, "documents", documents=[LETTER])
    assert (changed.title, list(changed.documents)) == ("Wells", [LETTER])
    changed = await update(rpc, created.name, "*", title="Wells")
    assert list(changed.documents) == []


async def test_the_record_of_an_answer_names_the_documents_it_was_asked_with(world, rpc):
    await deliver_all(world, UPLOAD)
    conversation = await create(rpc, documents=[UPLOAD, PUMP], collection="manuals")
    await send(rpc, conversation)
    await update(rpc, conversation.name, documents=[])
    wanted = Wanted(tenant="acme", held=None, principal="user:ada")
    [record] = await world.exchanges.list_page(wanted, None, 10)
    assert to_exported(record).settings == query_pb.AnswerSettings(
        collection="manuals", documents=[UPLOAD, PUMP], max_output_tokens=512
    )


def test_words_are_as_rare_as_in_the_collections_that_are_searched(world):
    inquiry = world.inquiry("impeller", documents=(UPLOAD,), collections=("letters",))
    assert find_scope(inquiry).collections == ("attachments", "letters")
    many = tuple(f"collections/c{n}/documents/d" for n in range(100))
    assert find_scope(replace(inquiry, documents=many)).collections == ()
    alone = find_scope(replace(inquiry, documents=()))
    assert (alone.collections, alone.where) == (("letters",), None)
