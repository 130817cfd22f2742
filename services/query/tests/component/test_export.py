"""Answers are exported with all that is recorded of them, and nothing that is gone or foreign."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from aquifer.query.v1 import conversation_service_pb2 as conversations
from aquifer.query.v1 import query_service_pb2 as pb
from chassis.base import paging
from chassis.base.errors import ForbiddenError, InvalidInputError
from chassis.identity.tokens import Caller, admit
from query.conversation_rpc import ConversationRpc
from query.domain import Version
from query.labels import Labels
from query.rpc import QueryRpc
from query.usecases import export_answers
from query.usecases.documents import HideDocuments
from query.usecases.export_answers import ExportAnswers

PUMP = "collections/manuals/documents/pump"


def sign_in(tenant="acme", principal="user:ada", labels=None, scopes=("ask",)) -> None:
    caller = Caller(
        tenant=tenant,
        principal=principal,
        key_id="k",
        scopes=frozenset(scopes),
        expires_at=0.0,
        labels=labels,
    )
    admit(caller, "token")


@pytest.fixture
async def rpc(world):
    # Asynchronous, so that pytest takes back the caller after the test.
    sign_in()
    return QueryRpc(
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


async def ask(rpc, question="impeller", **settings) -> str:
    request = pb.AskRequest(question=question, **settings)
    steps = [step async for step in rpc.Ask(request, None)]
    return steps[0].started.answer_id


async def export(rpc, **wanted) -> list[pb.ExportedAnswer]:
    return [one async for one in rpc.ExportAnswers(pb.ExportAnswersRequest(**wanted), None)]


async def test_a_record_has_everything_of_an_exchange(world, rpc):
    await world.deliver(world.embedded("the impeller wears out"))
    settings = {
        "collection": "manuals",
        "collections": ["letters"],
        "filter": 'title = "Pump manual"',
        "model": "quoting",
        "max_output_tokens": 99,
    }
    answer_id = await ask(rpc, **settings)
    feedback = pb.Feedback(rating=pb.RATING_GOOD, reason="to the point")
    await rpc.GiveFeedback(pb.GiveFeedbackRequest(answer_id=answer_id, feedback=feedback), None)
    [record] = await export(rpc)
    assert record.answer == await rpc.GetAnswer(pb.GetAnswerRequest(answer_id=answer_id), None)
    assert record.answer.citations[0].passage.ingest_trace_id != ""
    assert record.settings == pb.AnswerSettings(**settings)
    assert (record.principal, record.message, record.withheld) == ("user:ada", "", False)
    age = datetime.now(UTC) - record.create_time.ToDatetime(tzinfo=UTC)
    assert abs(age.total_seconds()) < 60


async def test_an_answer_of_a_conversation_names_its_message(world, rpc):
    chat = ConversationRpc(conversations=world.conversations, send=world.send)
    given = conversations.Conversation(max_output_tokens=50)
    request = conversations.CreateConversationRequest(conversation=given)
    created = await chat.CreateConversation(request, None)
    for question in ("impeller", "seal"):
        send = conversations.SendMessageRequest(parent=created.name, question=question)
        async for _ in chat.SendMessage(send, None):
            pass
    found = await export(rpc)
    assert [one.message for one in found] == [f"{created.name}/messages/{n}" for n in (2, 4)]
    assert [one.answer.question for one in found] == ["impeller", "seal"]
    assert {one.settings.max_output_tokens for one in found} == {50}


async def test_an_answer_from_before_its_settings_were_stored_is_exported(world, rpc):
    await ask(rpc)
    world.everything.execute("UPDATE answers SET settings = '{}'")
    [record] = await export(rpc)
    assert record.settings == pb.AnswerSettings()
    world.everything.execute("""UPDATE answers SET settings = '{"of_tomorrow": 1, "model": "m"}'""")
    [record] = await export(rpc)
    assert record.settings == pb.AnswerSettings(model="m")


async def test_a_cursor_continues_behind_its_answer_whatever_the_page(rpc, world, monkeypatch):
    asked = [await ask(rpc, f"question {n}") for n in range(5)]
    # Two answers of the same moment.
    world.everything.execute(
        "UPDATE answers SET created_at = '2026-01-01T00:00:00Z' WHERE question IN"
        " ('question 0', 'question 1')"
    )
    expected = [*sorted(asked[:2]), *asked[2:]]
    for size in (1, 2, 50):
        monkeypatch.setattr(export_answers, "PAGE", size)
        found = await export(rpc)
        assert [one.answer.answer_id for one in found] == expected
        for place, one in enumerate(found):
            rest = await export(rpc, cursor=one.cursor)
            assert [each.answer.answer_id for each in rest] == expected[place + 1 :]


async def test_a_range_of_time_and_a_rating_choose(world, rpc):
    good, _ = await ask(rpc, "one"), await ask(rpc, "two")
    feedback = pb.Feedback(rating=pb.RATING_GOOD)
    await rpc.GiveFeedback(pb.GiveFeedbackRequest(answer_id=good, feedback=feedback), None)
    first, second = sorted(row["created_at"] for row in world.rows("answers"))
    moment = Timestamp()
    moment.FromDatetime(second)
    assert [one.answer.question for one in await export(rpc, start_time=moment)] == ["two"]
    assert [one.answer.question for one in await export(rpc, end_time=moment)] == ["one"]
    assert first < second
    rated = await export(rpc, rating=pb.RATING_GOOD)
    assert [one.answer.question for one in rated] == ["one"]
    assert await export(rpc, rating=pb.RATING_BAD) == []


async def test_text_that_is_hidden_or_gone_is_not_exported(world, rpc):
    labelled = Labels(names=("hr",), order=1)
    await world.deliver(world.embedded("the impeller wears out", labels=labelled))
    answer_id = await ask(rpc)
    feedback = pb.Feedback(rating=pb.RATING_GOOD, reason="it wears out indeed")
    await rpc.GiveFeedback(pb.GiveFeedbackRequest(answer_id=answer_id, feedback=feedback), None)
    sign_in(labels=frozenset({"it"}))
    [hidden] = await export(rpc)
    assert (hidden.withheld, list(hidden.answer.citations)) == (True, [])
    assert "wears" not in str(hidden)
    assert hidden.answer.question == "impeller"
    sign_in(labels=frozenset({"hr"}))
    assert "wears" in str(await export(rpc))
    await world.hide.run("acme", Version(document=PUMP, number=1))
    for _ in range(2):  # hidden, then purged
        [gone] = await export(rpc)
        assert gone.withheld
        assert "wears" not in str(gone)
        assert gone.answer.citations[0].passage.document == PUMP
        await world.purge(1)


async def test_each_principal_exports_its_own_and_an_operator_those_of_the_tenant(rpc):
    await ask(rpc, "of ada")
    sign_in(principal="user:bob")
    await ask(rpc, "of bob")
    sign_in(tenant="globex")
    await ask(rpc, "of globex")
    sign_in(principal="user:bob")
    assert [one.answer.question for one in await export(rpc)] == ["of bob"]
    with pytest.raises(ForbiddenError) as refused:
        await export(rpc, all_principals=True)
    assert refused.value.reason == "SCOPE_MISSING"
    sign_in(principal="user:ops", scopes=("ask", "operate"))
    assert await export(rpc) == []
    found = await export(rpc, all_principals=True)
    assert [(one.answer.question, one.principal) for one in found] == [
        ("of ada", "user:ada"),
        ("of bob", "user:bob"),
    ]


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        paging.make_token("a"),
        paging.make_token("yesterday", str(uuid.UUID(int=1))),
        paging.make_token("2026-01-01T00:00:00", str(uuid.UUID(int=1))),
        paging.make_token("2026-01-01T00:00:00+00:00", "x"),
    ],
)
async def test_an_invented_cursor_is_refused(rpc, cursor):
    with pytest.raises(InvalidInputError) as refused:
        await export(rpc, cursor=cursor)
    assert refused.value.reason == "CURSOR_INVALID"


NOW = int(datetime.now(UTC).timestamp())


@pytest.mark.parametrize(
    "wanted",
    [
        {"rating": 9},
        {"start_time": Timestamp(seconds=NOW), "end_time": Timestamp(seconds=NOW - 1)},
        {"start_time": Timestamp(seconds=10**15)},
        {"end_time": Timestamp(nanos=-1)},
    ],
)
async def test_a_range_that_cannot_be_is_refused(rpc, wanted):
    with pytest.raises(InvalidInputError) as refused:
        await export(rpc, **wanted)
    assert refused.value.reason == "EXPORT_RANGE"


async def test_an_export_reads_no_more_rows_than_it_shows(world, rpc):
    """Neither the answers of others nor those before the cursor."""
    world.everything.execute(
        "INSERT INTO answers (tenant_id, answer_id, principal, question, text, citations,"
        " finish_reason, input_tokens, output_tokens, model, generative, trace_id, created_at)"
        " SELECT 'acme', md5(n::text)::uuid, 'user:' || n % 50, 'q', 't', '[]', 'stop', 1, 1, 'm',"
        " false, '', '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 s'"
        " FROM generate_series(1, 5000) AS n"
    )
    world.everything.execute("ANALYZE answers")
    sign_in(principal="user:7")
    found = await export(rpc)
    assert len(found) == 100
    assert found[1].create_time.ToDatetime() - found[0].create_time.ToDatetime() == timedelta(
        seconds=50
    )
