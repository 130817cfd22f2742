"""Questions that lean on earlier ones get their words; others stay as they are."""

import pytest

from query.words.follow_ups import ADDED_MAX_CHARS, ADDED_WORDS_MAX, complete_question

BEARING = "How often must the bearing of the P-200 pump be greased?"
LAGER = "Wie wird das Lager der Pumpe geschmiert?"


@pytest.mark.parametrize(
    ("question", "earlier", "completed"),
    [
        ("And how often?", BEARING, "And how often? (bearing P-200 pump greased)"),
        ("Why?", BEARING, "Why? (often bearing P-200 pump greased)"),
        ("What does it weigh?", BEARING, "What does it weigh? (often bearing P-200 pump greased)"),
        ("And the impeller?", BEARING, "And the impeller? (often bearing P-200 pump greased)"),
        ("Und wie oft?", LAGER, "Und wie oft? (Lager Pumpe geschmiert)"),
        (
            "Wie oft muss es gewechselt werden?",
            LAGER,
            "Wie oft muss es gewechselt werden? (Lager Pumpe geschmiert)",
        ),
        ("¿Y el motor?", "¿Cómo se engrasa el cojinete?", "¿Y el motor? (engrasa cojinete)"),
        (
            "它多久要换一次?",
            "水泵的叶轮是什么材料?",
            "它多久要换一次? (水泵的叶轮是什么材料)",
        ),
        ("?", BEARING, "? (often bearing P-200 pump greased)"),
    ],
)
def test_a_question_that_leans_on_the_one_before_gets_its_words(question, earlier, completed):
    assert complete_question(question, [earlier]) == completed


@pytest.mark.parametrize(
    "question",
    [
        "How deep is the well in Berlin?",
        "Which oil does the gearbox need?",
        "Welches Öl braucht das Getriebe?",
        "¿Qué es la bomba de agua?",
        "水泵的叶轮是什么材料?",
    ],
)
def test_a_question_that_stands_alone_stays(question):
    assert complete_question(question, [BEARING, LAGER]) == question


def test_the_first_question_stays():
    assert complete_question("And it?", []) == "And it?"


def test_words_come_through_questions_that_lean_themselves():
    asked = complete_question("And in winter?", [BEARING, "With which grease?"])
    assert asked == "And in winter? (grease often bearing P-200 pump greased)"


def test_a_new_subject_ends_the_old_one():
    asked = complete_question("And why?", [BEARING, "Which oil does the gearbox need?"])
    assert asked == "And why? (oil gearbox need)"


def test_what_is_added_is_bounded():
    many = " ".join(f"word{number}" for number in range(50))
    assert complete_question("Why?", [many]).count("word") == ADDED_WORDS_MAX
    long = " ".join("x" * 100 + str(number) for number in range(20))
    assert len(complete_question("Why?", [long])) <= ADDED_MAX_CHARS + len("Why? ()")
