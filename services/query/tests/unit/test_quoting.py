"""Where a passage says what the answer says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query.answer import Mention
from query.usecases.quoting import find_quote
from services.query.tests.integration.test_inference_conformance import passage

PLAN = "Stage one begins at 21 metres. Stage two begins at 24 metres! Cars stay dirty\nPools close."


def quote(text: str, said: str) -> str:
    found = find_quote([passage(0, text)], Mention(passage=0, marker="[1]"), said)
    return text[found.start : found.end]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("Stage two starts at 24 metres [1]", "Stage two begins at 24 metres!"),
        ("Pools open. Stage one starts at 21 metres [2][1]", "Stage one begins at 21 metres."),
        ("Nobody may wash cars [1]", "Cars stay dirty"),
        ("pools close", "Pools close."),
        ("Ozean", PLAN),
        ("", PLAN),
    ],
)
def test_the_sentence_with_most_words_of_the_statement_is_quoted(said, wanted):
    assert quote(PLAN, said) == wanted


def test_sentences_of_scripts_without_blanks_end_too():
    text = "\u4e95\u6df1\u516d\u5341\u4e8c\u7c73\u3002\u6cf5\u5f88\u65e7\u3002"
    assert quote(text, "\u6cf5\u5f88\u65e7 [1]") == "\u6cf5\u5f88\u65e7\u3002"


@given(st.text(min_size=1), st.text())
def test_every_quote_is_a_part_of_the_passage_that_is_not_empty(text, said):
    assert quote(text, said) in text
    assert quote(text, said)
