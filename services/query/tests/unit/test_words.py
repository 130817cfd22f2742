"""A question finds the passage that holds its word, however it is written, before one like it.

More cases lie outside the project, in `../shared/data/cases` beside it. Without them only own ones
are tried, and the test says so. `pytest -s` prints the score.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query.retrieval.lexical import encode_passage, read_words
from query.words.dates import find_dates
from query.words.folding import fold, transcribe
from query.words.identifiers import list_parts, list_wholes
from query.words.languages import ALGORITHMS, LANGUAGES, find_language, stem
from query.words.terms import read_passage, read_question

CASES = Path(__file__).resolve().parents[5] / "shared/data/cases"


def rarity(found: int, points: int) -> float:
    return math.log(1 + (points - found + 0.5) / (found + 0.5))


def rank(question: str, passages: Sequence[str]) -> list[int]:
    """Numbers of the passages that the question finds by words, best first."""
    points = [encode_passage(passage) for passage in passages]
    found = Counter(index for point in points for index in point.indices)
    words = read_words(question)
    asked = words.vector
    for spelling in words.spellings:
        if not any(index in found for index in spelling.word):
            asked = spelling.replace(asked)
    scores = {}
    for number, point in enumerate(points):
        weights = dict(zip(point.indices, point.values, strict=True))
        scores[number] = sum(
            value
            * weights[index]
            * math.log(1 + (len(points) - found[index] + 0.5) / (found[index] + 0.5))
            for index, value in zip(asked.indices, asked.values, strict=True)
            if index in weights
        )
    best = sorted(scores, key=lambda number: -scores[number])
    return [number for number in best if scores[number] > 0]


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("BX1140", "The seal BX-1140 fits.", "The seal BX-1141 fits."),
        ("BX 1140", "The seal BX-1140 fits.", "The seal BX-1410 fits."),
        ("bx-1140 price", "The seal BX1140 fits.", "The price of BX1141."),
        ("1140", "The seal BX_1140 fits.", "The seal BX_1104 fits."),
        ("E_TLS_07", "E_TLS_07 is a handshake.", "E_TLS_70 is a handshake."),
        ("2.7.1", "Release 2.7.1 is out.", "Release 7.2.1 is out."),
        ("v2.7.1", "Release v2.7.1 is out.", "Release v2.1.7 is out."),
        ("C#", "Written in C#.", "Written in C."),
        ("F++", "Written in F++, mostly.", "Written in F."),
        (".ENV", "Put it into .ENV first.", "Put it into env first."),
        ("Q&A", "The Q&A page.", "The Q page, a page."),
        ("-15", "Keep it at -15 degrees.", "Keep it at 15 degrees."),
        ("minus 15 degrees", "Keep it at -15 degrees.", "Keep it at 15 degrees."),
        ("2500000", "It costs 2,500,000 yen.", "It costs 2,500,001 yen."),
        ("$2,500,000", "It costs 2500000 dollars.", "It costs 2500 dollars."),
        ("7/16", "A bolt of 7/16 inch.", "A bolt of 16/7 inch."),
        ("GB29NWBK60161331926819", "Pay to GB29 NWBK 6016 1331 9268 19.", "Pay to GB29 NWBK 6016."),
        ("0301234567", "Call 030 123 4567 now.", "Call 030 123 4568 now."),
        ("retry_count_max", "Set retryCountMax to 3.", "Set retryCount to 3."),
        ("retry count max", "Set retry_count_max to 3.", "Retry it."),
        ("boiler.conf", "See /etc/plant/boiler.conf there.", "See /etc/plant/boiler.yaml there."),
        ("a.lee@example.org", "Ask a.lee@example.org first.", "Ask b.lee@example.org first."),
        ("2023-11-05", "Signed on 5 November 2023.", "Signed on 11 May 2023."),
        ("November 5, 2023", "Signed on 2023-11-05.", "Signed on 2023-05-11."),
        ("IT", "Ask IT for a key.", "It is what it is."),
        ("US", "Sent to the US today.", "Sent to us today."),
        ("U.S.A", "Sent to the USA today.", "Sent to a user today."),
        ("e-mail", "Write an email.", "Write a letter."),
        ("email", "Write an e-mail.", "Write a letter."),
        ("don't panic", "Panic is useless.", "Read the book."),
        ("naïve", "A naive view.", "A native view."),
        ("resume", "Send a résumé.", "Send a result."),
        ("Straße", "Die STRASSE ist gesperrt.", "Die Strecke ist gesperrt."),
        ("Muehle", "Die Mühle steht am Fluss.", "Die Müller stehen am Fluss."),
        ("Gebühr", "Die Bearbeitungsgebühren sind fällig.", "Die Bearbeitung ist fertig."),
        ("école", "Les écoles sont fermées.", "Les églises sont fermées."),
        ("договора", "Договор подписан вчера.", "Дорога закрыта завтра."),
        ("еще", "Ещё не готово.", "Не готово."),
        ("المدرسة", "تقع مدرسة القرية قرب النهر", "تقع محطة القرية قرب النهر"),
        ("会议记录", "请在周五前提交会议记录。", "请在周五前提交报销单。"),
        ("出張費", "出張費は月末に払います。", "交通費は月末に払います。"),
        ("โรงพยาบาล", "คนไข้ถูกส่งไปโรงพยาบาลเมื่อคืนนี้", "นักเรียนถูกส่งไปโรงเรียนเมื่อวานนี้"),
        ("សាលារៀន", "សិស្សទៅសាលារៀន", "គាត់ទៅផ្សារ"),
        ("학교에서", "학교는 산 옆에 있다.", "시장은 강 옆에 있다."),
        ("accomodation", "The accommodation is free.", "The accompaniment is free."),
        ("seperate", "Keep them separate.", "Keep them desperate."),
        ("neighbour", "Ask a neighbor.", "Ask a number."),
        ("ｂｘ１１４０", "The seal BX1140 fits.", "The seal BX1141 fits."),
    ],
)
def test_the_right_passage_is_first(question, right, wrong):
    assert rank(question, [wrong, right])[0] == 1


def test_questions_of_the_cases_find_their_document_first(capsys):
    """By words alone; each file is a collection of its own, and each document one passage."""
    if not CASES.is_dir():
        with capsys.disabled():
            sys.stderr.write("no shared search cases here: own samples only\n")
        assert rank("BX1140", ["The seal BX-1141.", "The seal BX-1140."]) == [1, 0]
        return
    manifest = json.loads((CASES / "manifest.json").read_text())
    asked, missed = 0, []
    for case in (one for one in manifest if one["file"].startswith("search/")):
        lines = (CASES / case["file"]).read_text(encoding="utf-8").splitlines()
        documents = [json.loads(line) for line in lines]
        passages = [document["text"] for document in documents]
        for query in case["queries"]:
            asked += 1
            found = rank(query["query"], passages)
            if not found or documents[found[0]]["_id"] != query["first"]:
                missed.append(query["query"])
    sys.stdout.write(f"{asked - len(missed)} of {asked} questions find their document first\n")
    assert missed == []


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("where is the key of the room", "en"),
        ("wo ist der Schlüssel zu dem Raum", "de"),
        ("où est la clé de la chambre et pourquoi", "fr"),
        ("dónde está la llave de la habitación", "es"),
        ("где находится ключ от этой комнаты и кто его взял", "ru"),
        ("أين يوجد مفتاح الغرفة التي في هذا المبنى", "ar"),
        ("gdzie jest klucz do tego pokoju", "pl"),
        ("PPR-9077", ""),
        ("", ""),
    ],
)
def test_a_language_is_told_by_its_function_words(text, language):
    assert find_language(set(text.lower().split())) == language


def test_every_language_with_a_stemmer_stems():
    assert {one for listed in LANGUAGES.values() for one in listed} == set(ALGORITHMS)
    for language in ALGORITHMS:
        assert stem("aaa", language)


def test_marks_are_folded_where_writers_leave_them_out():
    assert [fold(word) for word in ("café", "ёлка", "łódź", "ø")] == ["cafe", "елка", "lodz", "o"]
    assert fold("ที่นี่") == "ที่นี่"
    assert fold("हिन्दी") == "हिन्दी"
    assert [transcribe(word) for word in ("müll", "ål", "cafe")] == ["muell", "aal", "cafe"]


def test_identifiers_have_wholes_and_parts():
    assert list(dict.fromkeys(list_wholes("/srv/log/pump-7.log"))) == [
        "/srv/log/pump7.log",
        "srv",
        "log",
        "pump7.log",
    ]
    assert list(list_parts("getHTTPResponse2")) == [
        "getHTTPResponse2",
        "get",
        "HTTP",
        "Response",
        "2",
    ]
    assert list(list_parts("7f3c1e9a")) == ["7f3c1e9a"]


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("due 2024-03-07, paid", ["2024-03-07"]),
        ("7. März 2024", ["2024-03-07"]),
        ("le 7 mars 2024", ["2024-03-07"]),
        ("7 de marzo de 2024", ["2024-03-07"]),
        ("2024年3月7日", ["2024-03-07"]),
        ("03/07/2024", ["2024-07-03", "2024-03-07"]),
        ("31/12/2024", ["2024-12-31"]),
        ("2024-13-41 and 30 February 2024", []),
    ],
)
def test_dates_are_found_in_their_usual_forms(text, dates):
    assert list(find_dates(text)) == dates


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_a_text_finds_itself(text):
    read = read_passage(text)
    asked = read_question(text)
    if asked.weights:
        assert rank(text, [text]) == [0]
    assert read.words >= 0


def test_a_long_run_of_letters_has_few_terms():
    """Its terms would stay in a cache; 4,000 letters without a blank are no word."""
    assert len(read_passage("ab" * 2_000).counts) < 10
    assert all(len(one.similar) < 10 for one in read_question("ab" * 2_000).spellings)


@pytest.mark.parametrize(
    "make",
    [
        lambda size: "a" * size,
        lambda size: "a-1" * size,
        lambda size: "Ab1." * size,
        lambda size: "1 " * size,
        lambda size: "1,000" * size,
        lambda size: "A1 " * size,
        lambda size: "年" * size,
        lambda size: "ก" * size,
        lambda size: "é" * size,
        lambda size: "minus " * size + "4",
        lambda size: "((((" * size,
        lambda size: "7 March " * size,
    ],
)
def test_no_text_takes_long(make):
    """Also the work of patterns grows as the text does; the bound is generous."""
    text = make(1_000)[:4_096]
    started = process_time()
    read_passage(text)
    read_question(text[:4_000])
    assert process_time() - started < 2.0
