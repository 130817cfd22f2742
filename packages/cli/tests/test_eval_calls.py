"""Questions that are asked side by side, and tried again."""

import asyncio

import pytest

from aquifer_cli.errors import EXIT_UNAVAILABLE, CommandError
from aquifer_cli.evaluation import calls
from aquifer_cli.evaluation.calls import Failure, ask_each
from aquifer_cli.evaluation.files import Question

QUESTIONS = [Question(id=str(number), text="why") for number in range(20)]
AWAY = CommandError("UNAVAILABLE", "no server answers", exit_code=EXIT_UNAVAILABLE)
REFUSED = CommandError("QUESTION_LENGTH", "it is too long")


async def ask(work, questions=QUESTIONS):
    """The results, the failures, and how many questions were done."""
    count = 0

    def done():
        nonlocal count
        count += 1

    results, failures = await ask_each(questions, work, done=done)
    return results, failures, count


async def test_questions_are_asked_in_order_and_some_at_once():
    running, most, order = 0, 0, []

    async def answer(question):
        nonlocal running, most
        order.append(question.id)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return question.id

    results, failures, count = await ask(answer)
    assert results == {one.id: one.id for one in QUESTIONS}
    assert (failures, count, most) == ([], 20, calls.SIDE_BY_SIDE)
    assert order == [one.id for one in QUESTIONS]


async def test_what_may_succeed_later_is_tried_again(monkeypatch):
    monkeypatch.setattr(calls, "RETRY_FIRST_S", 0.001)
    tries = {}

    async def answer(question):
        tries[question.id] = tries.get(question.id, 0) + 1
        if tries[question.id] < 3:
            raise AWAY
        return 1

    results, failures, count = await ask(answer)
    assert (len(results), failures, count) == (20, [], 20)
    assert set(tries.values()) == {3}


async def test_a_question_that_fails_is_told_and_the_others_are_measured():
    async def answer(question):
        if question.id == "7":
            raise REFUSED
        return 1

    results, failures, count = await ask(answer)
    assert failures == [Failure(question="7", reason="QUESTION_LENGTH", detail="it is too long")]
    assert (len(results), count) == (19, 20)


async def test_if_all_fail_the_reason_is_raised(monkeypatch):
    monkeypatch.setattr(calls, "PATIENCE_S", 0.0)
    monkeypatch.setattr(calls, "RETRY_FIRST_S", 0.001)

    async def answer(question):
        raise AWAY

    with pytest.raises(CommandError) as raised:
        await ask(answer)
    assert raised.value is AWAY


async def test_a_key_that_may_not_ask_ends_it_at_once():
    asked = []

    async def answer(question):
        asked.append(question.id)
        if question.id == "1":
            raise CommandError("SCOPE_MISSING", "ask", of_key=True)
        await asyncio.sleep(0)
        return 1

    with pytest.raises(CommandError) as raised:
        await ask(answer)
    assert raised.value.reason == "SCOPE_MISSING"
    assert len(asked) < len(QUESTIONS)
