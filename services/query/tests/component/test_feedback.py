"""Feedback is stored with its answer, by who asked, and its reason goes with the answer's text."""

import uuid
from datetime import UTC, datetime

import pytest

from aquifer.query.v1 import query_service_pb2 as pb
from chassis.base.errors import InvalidInputError, NotFoundError
from chassis.identity.tokens import Caller, admit
from query.domain import Version
from query.labels import Labels
from query.rpc import QueryRpc
from query.usecases.documents import HideDocuments
from query.usecases.export_answers import ExportAnswers

PUMP = "collections/manuals/documents/pump"


def sign_in(tenant="acme", principal="user:ada", labels=None) -> None:
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


async def ask(rpc) -> str:
    steps = [step async for step in rpc.Ask(pb.AskRequest(question="impeller"), None)]
    return steps[0].started.answer_id


async def rate(rpc, answer_id: str, rating=pb.RATING_GOOD, reason="") -> None:
    feedback = pb.Feedback(rating=rating, reason=reason)
    request = pb.GiveFeedbackRequest(answer_id=answer_id, feedback=feedback)
    await rpc.GiveFeedback(request, None)


async def read(rpc, answer_id: str) -> pb.Answer:
    return await rpc.GetAnswer(pb.GetAnswerRequest(answer_id=answer_id), None)


async def test_feedback_is_read_with_its_answer_and_replaced(world, rpc):
    await world.deliver(world.embedded("the impeller wears out"))
    answer_id = await ask(rpc)
    assert not (await read(rpc, answer_id)).HasField("feedback")
    await rate(rpc, answer_id, reason="to the point")
    answer = await read(rpc, answer_id)
    assert (answer.feedback.rating, answer.feedback.reason) == (pb.RATING_GOOD, "to the point")
    age = datetime.now(UTC) - answer.feedback.give_time.ToDatetime(tzinfo=UTC)
    assert abs(age.total_seconds()) < 60
    assert answer.text != ""
    await rate(rpc, answer_id, pb.RATING_BAD)
    answer = await read(rpc, answer_id)
    assert (answer.feedback.rating, answer.feedback.reason) == (pb.RATING_BAD, "")


@pytest.mark.parametrize(
    ("tenant", "principal", "labels"),
    [
        ("acme", "user:bob", None),
        ("globex", "user:ada", None),
        ("acme", "user:ada", frozenset({"it"})),
    ],
)
async def test_only_who_asked_and_may_see_it_rates_an_answer(world, rpc, tenant, principal, labels):
    labelled = Labels(names=("hr",), order=1)
    await world.deliver(world.embedded("the impeller wears out", labels=labelled))
    answer_id = await ask(rpc)
    sign_in(tenant, principal, labels)
    with pytest.raises(NotFoundError) as refused:
        await rate(rpc, answer_id)
    assert refused.value.reason == "ANSWER_UNKNOWN"
    sign_in()
    assert not (await read(rpc, answer_id)).HasField("feedback")


@pytest.mark.parametrize("answer_id", ["", "x", str(uuid.UUID(int=7))])
async def test_an_answer_that_is_not_there_cannot_be_rated(rpc, answer_id):
    with pytest.raises(NotFoundError) as refused:
        await rate(rpc, answer_id)
    assert refused.value.reason == "ANSWER_UNKNOWN"


@pytest.mark.parametrize(
    ("rating", "reason", "field"),
    [
        (pb.RATING_UNSPECIFIED, "", "feedback.rating"),
        (9, "", "feedback.rating"),
        (pb.RATING_BAD, "x" * 1_001, "feedback.reason"),
        (pb.RATING_BAD, "a\0b", "feedback.reason"),
    ],
)
async def test_feedback_out_of_range_is_refused(world, rpc, rating, reason, field):
    answer_id = await ask(rpc)
    with pytest.raises(InvalidInputError) as refused:
        await rate(rpc, answer_id, rating, reason)
    assert (refused.value.reason, refused.value.fields[0].field) == ("FEEDBACK_RANGE", field)
    assert world.rows("answers")[0]["feedback"] is None


async def test_the_reason_goes_with_the_text_of_the_answer(world, rpc):
    await world.deliver(world.embedded("the impeller wears out"))
    answer_id = await ask(rpc)
    await rate(rpc, answer_id, reason="it wears out indeed")
    await world.hide.run("acme", Version(document=PUMP, number=1))
    feedback = (await read(rpc, answer_id)).feedback
    assert (feedback.rating, feedback.reason) == (pb.RATING_GOOD, "")
    await world.purge(1)
    assert "indeed" not in str(world.rows("answers"))
    await rate(rpc, answer_id, pb.RATING_BAD, "it wears out indeed")
    feedback = (await read(rpc, answer_id)).feedback
    assert (feedback.rating, feedback.reason) == (pb.RATING_BAD, "")
    assert "indeed" not in str(world.rows("answers"))
