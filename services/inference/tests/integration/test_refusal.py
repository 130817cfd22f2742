"""When to refuse: on an own small sample always, on the public sets where they are installed."""

import sys

import pytest

from inference.batching import Batcher
from inference.engines.extractive import Extractive
from inference.generation import Finish, FinishReason
from services.inference.tests.generations import ask, quotes

from .answers import auroc, own_cases, public_cases, public_data


async def outcomes(engine, cases):
    """For each kind of question: pairs of the end of the answer and whether a quote holds it."""
    results = {}
    async with Batcher(engine) as batcher:
        generator = Extractive(batcher, engine)
        for case in cases:
            request = ask(case.question, case.passages)
            steps = [step async for step in generator.generate(request)]
            quoted = " ".join(quote.text for quote in quotes(steps, request))
            hit = any(answer in quoted for answer in case.answers)
            assert isinstance(steps[-1], Finish)
            results.setdefault(case.kind, []).append((steps[-1], hit))
    return results


def supports(results):
    return [finish.support for finish, _ in results]


def refused(results):
    return sum(finish.reason is FinishReason.NO_ANSWER for finish, _ in results) / len(results)


async def test_foreign_questions_are_told_from_answerable_ones(engine):
    results = await outcomes(engine, own_cases())
    answerable, foreign = results["answerable"], results["foreign"]
    assert auroc(supports(answerable), supports(foreign)) > 0.98
    assert refused(answerable) == 0
    assert refused(foreign) >= 0.9


@pytest.mark.timeout(300)
async def test_refusal_holds_on_the_public_sets(engine, capsys):
    """Bounds are well below what was measured over the whole sets; see `measure.py`."""
    if not public_data():
        with capsys.disabled():
            sys.stdout.write("\nno ../shared/data beside the checkout: own sample used instead\n")
        results = await outcomes(engine, own_cases())
        assert auroc(supports(results["answerable"]), supports(results["foreign"])) > 0.98
        return
    results = await outcomes(engine, public_cases(count=30, passages=8, seed=3))
    answerable = results["answerable"]
    assert auroc(supports(answerable), supports(results["foreign"])) > 0.98
    assert auroc(supports(results["domain"]), supports(results["foreign"])) > 0.95
    assert auroc(supports(answerable), supports(results["adversarial"])) > 0.52
    assert refused(answerable) < 0.1
    assert refused(results["domain"]) < 0.15
    assert refused(results["foreign"]) > 0.85
    assert sum(hit for _, hit in answerable) / len(answerable) > 0.8
