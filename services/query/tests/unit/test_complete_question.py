"""A question that leans on earlier ones is rewritten by a model, or completed by the rule."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from typing_extensions import override

from chassis.base.errors import UnavailableError
from query.usecases import complete_question
from query.usecases.complete_question import CompleteQuestion, Rewriter

EARLIER = ["How deep is the village well?"]
LEANING = "And how wide is it?"
BY_RULE = "And how wide is it? (deep village well)"


@dataclass
class ScriptedRewriter(Rewriter):
    """A model that says the same each time, fails, or never ends."""

    said: str = ""
    error: Exception | None = None
    hangs: bool = False
    asked: list[tuple[str, Sequence[str], str]] = field(default_factory=list)

    @override
    async def rewrite(self, model: str, earlier: Sequence[str], question: str) -> str:
        self.asked.append((model, earlier, question))
        if self.error:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        return self.said


def completes(rewriter: Rewriter, model: str = "small") -> CompleteQuestion:
    return CompleteQuestion(rewriter=rewriter, model=model)


async def test_a_model_rewrites_what_leans_on_earlier_questions():
    rewriter = ScriptedRewriter(said=" How wide is the village well?\n")
    asked = await completes(rewriter).run(LEANING, EARLIER)
    assert asked == "How wide is the village well?"
    assert rewriter.asked == [("small", EARLIER, LEANING)]


async def test_without_a_model_the_rule_completes():
    rewriter = ScriptedRewriter(said="never asked")
    assert await completes(rewriter, model="").run(LEANING, EARLIER) == BY_RULE
    assert rewriter.asked == []


@pytest.mark.parametrize("question", ["How long does rye bread rest before cutting?", "ISO 9001"])
async def test_what_stands_alone_is_not_rewritten(question):
    rewriter = ScriptedRewriter(said="never asked")
    assert await completes(rewriter).run(question, []) == question
    assert rewriter.asked == []


@pytest.mark.parametrize(
    "said",
    ["", "  \n ", "Two metres.\nThe well is wide.", "x" * 1_000, "a\x00b"],
)
async def test_what_is_no_question_leaves_the_rule(said):
    assert await completes(ScriptedRewriter(said=said)).run(LEANING, EARLIER) == BY_RULE


async def test_a_model_that_fails_leaves_the_rule():
    rewriter = ScriptedRewriter(error=UnavailableError("ENGINE_UNREACHABLE", "x"))
    assert await completes(rewriter).run(LEANING, EARLIER) == BY_RULE


async def test_a_model_that_hangs_leaves_the_rule(monkeypatch):
    monkeypatch.setattr(complete_question, "REWRITE_MAX_S", 0.01)
    rewriter = ScriptedRewriter(hangs=True)
    async with asyncio.timeout(20):
        assert await completes(rewriter).run(LEANING, EARLIER) == BY_RULE
