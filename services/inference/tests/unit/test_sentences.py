"""Sentences cover a text exactly, and stop where a reader would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engines.sentences import SENTENCE_MAX_CHARS, sentences, stem


def split(text):
    return [text[one.start : one.end] for one in sentences(text)]


def headed(text):
    return [(text[slice(*one.heading)], text[one.start : one.end]) for one in sentences(text)]


def test_prose_is_split_at_its_stops():
    assert split(
        'She said "It is far too late." Then she left the house!  Nobody followed her.'
    ) == [
        'She said "It is far too late."',
        "Then she left the house!",
        "Nobody followed her.",
    ]


def test_abbreviations_initials_and_numbers_are_no_stops():
    text = "Dr. J. R. Smith of the U.S. Navy paid 3.5 million, i.e. too much, for Fig. 2 alone."
    assert split(text) == [text]


def test_old_abstracts_with_lone_stops_are_split():
    assert split("the flow is laminar here . the wake behind it is turbulent .") == [
        "the flow is laminar here .",
        "the wake behind it is turbulent .",
    ]


def test_a_heading_is_no_sentence_but_stands_above_those_that_follow():
    text = (
        "Handbook of the village well\n\nThe well\n\nIt was drilled in 1987. It is dry now.\n\n"
        "Every week\n\n- Read the water meter and note what it says."
    )
    title = "Handbook of the village well\n\nThe well"
    assert headed(text) == [
        (title, "It was drilled in 1987."),
        (title, "It is dry now."),
        ("Every week", "- Read the water meter and note what it says."),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "The pump stands in the cellar",
        "The pump runs.\n\nIt never stops.",
        "- bring water and good boots\n\n- bring a map of the valley",
        "Part of the pump | Spares kept\n\nBearing of the motor | 2",
        "These are the parts of it:\n\nThe rotor is made of steel.",
        f"{'A line that goes on and on ' * 4}\n\nIt never stops.",
        "A river flows\n\nbetween the hills\n\nand nobody knows\n\nwhere it will go\n\nin the end.",
    ],
    ids=["last", "stops", "list", "table", "colon", "long", "verse"],
)
def test_a_line_that_may_be_all_there_is_to_know_is_no_heading(text):
    assert {heading for heading, _ in headed(text)} == {""}
    assert "".join("".join(split(text)).split()) == "".join(text.split())


def test_a_question_stays_with_its_answer():
    text = "How long does the battery last? About nine hours in the cold."
    assert split(text) == [text]


def test_list_items_stand_alone():
    assert split("- bring water and good boots\n- bring a map of the valley") == [
        "- bring water and good boots",
        "- bring a map of the valley",
    ]


def test_ideographic_stops_need_no_space():
    text = "\u6e05\u6c34" * 13 + "\u3002" + "\u767d\u5ddd" * 13 + "\u3002"
    assert len(split(text)) == 2


def test_text_without_stops_is_cut_at_white_space():
    pieces = split("number " * 400)
    assert len(pieces) > 1
    assert all(piece.startswith("number") and piece.endswith("number") for piece in pieces)


@given(st.text(st.sampled_from("ab .!?\n-1\u3002\u201d("), max_size=1500))
def test_sentences_are_in_order_and_leave_out_only_white_space(text):
    spans = [(one.start, one.end) for one in sentences(text)]
    headings = {one.heading for one in sentences(text) if any(one.heading)}
    spans = sorted([*spans, *headings])
    assert [at for span in spans for at in span] == sorted(at for span in spans for at in span)
    kept = "".join(text[start:end] for start, end in spans)
    assert "".join(kept.split()) == "".join(text.split())
    for start, end in spans:
        assert start < end <= start + SENTENCE_MAX_CHARS + 30
        assert text[start:end] == text[start:end].strip()


def test_forms_of_a_word_share_a_stem():
    for one, other in [
        ("study", "studies"),
        ("city", "cities"),
        ("walked", "walking"),
        ("bus", "buses"),
    ]:
        assert stem(one) == stem(other)
    assert stem("walk") != stem("talk")
