"""Messages come with their citations if that is asked for, under the rules of their answers."""

import pytest

from aquifer.query.v1 import conversation_service_pb2 as pb
from aquifer.query.v1 import query_service_pb2 as answers
from chassis.base.paging import PAGE_MAX_BYTES
from chassis.identity.tokens import Caller, admit
from query.conversation_rpc import CITED_PAGE_MAX, ConversationRpc
from query.domain import Version
from query.labels import Labels
from query.rpc import QueryRpc
from query.usecases.documents import HideDocuments
from query.usecases.export_answers import ExportAnswers

PUMP = "collections/manuals/documents/pump"


def sign_in(labels=None) -> None:
    caller = Caller(
        tenant="acme",
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


async def converse(rpc, *questions: str) -> str:
    created = await rpc.CreateConversation(pb.CreateConversationRequest(), None)
    for question in questions:
        request = pb.SendMessageRequest(parent=created.name, question=question)
        async for _ in rpc.SendMessage(request, None):
            pass
    return created.name


async def list_cited(rpc, name: str) -> list[pb.Message]:
    found, token = [], ""
    while not found or token:
        request = pb.ListMessagesRequest(parent=name, include_citations=True, page_token=token)
        page = await rpc.ListMessages(request, None)
        assert page.ByteSize() < PAGE_MAX_BYTES + 100_000
        assert len(page.messages) <= CITED_PAGE_MAX
        found += page.messages
        token = page.next_page_token
    return found


async def test_citations_are_those_of_the_answer(world, rpc):
    await world.deliver(world.embedded("the impeller wears out", "the seal leaks"))
    name = await converse(rpc, "impeller")
    asked, given = await list_cited(rpc, name)
    assert list(asked.citations) == []
    query = QueryRpc(
        find=world.find,
        ask=world.ask,
        answers=world.answers,
        export=ExportAnswers(world.exchanges),
        facets=world.facets,
        hide=world.hide,
        hide_many=HideDocuments(world.begin),
        label=world.label,
        ledger=world.ledger,
    )
    request = answers.GetAnswerRequest(answer_id=given.answer_id)
    answer = await query.GetAnswer(request, None)
    assert answer.citations
    assert list(given.citations) == list(answer.citations)
    page = await rpc.ListMessages(pb.ListMessagesRequest(parent=name), None)
    assert all(not one.citations for one in page.messages)


async def test_a_withheld_message_has_no_citations(world, rpc):
    labelled = Labels(names=("hr",), order=1)
    await world.deliver(world.embedded("the impeller wears out", labels=labelled))
    name = await converse(rpc, "impeller")
    sign_in(frozenset({"it"}))
    _, given = await list_cited(rpc, name)
    assert (given.withheld, list(given.citations)) == (True, [])
    sign_in(frozenset({"hr"}))
    _, given = await list_cited(rpc, name)
    assert given.citations
    await world.hide.run("acme", Version(document=PUMP, number=1))
    _, given = await list_cited(rpc, name)
    assert (given.withheld, list(given.citations)) == (True, [])


async def test_pages_with_citations_are_bounded_in_number_and_bytes(world, rpc):
    await world.deliver(world.embedded("the impeller wears out"))
    name = await converse(rpc, "impeller")
    [row] = world.rows("answers")
    world.everything.execute(
        "INSERT INTO messages SELECT tenant_id, conversation_id, 2 + n, NULL, NULL, %s"
        " FROM messages, generate_series(1, 300) AS n WHERE number = 1",
        [row["answer_id"]],
    )
    assert len(await list_cited(rpc, name)) == 302
    world.everything.execute(
        "UPDATE answers SET citations = jsonb_set(citations, '{0,text}',"
        " to_jsonb(citations->0->>'text' || repeat(' more', 20000)))"
    )
    found = await list_cited(rpc, name)
    assert [one.name.rpartition("/")[2] for one in found] == [str(n) for n in range(1, 303)]
