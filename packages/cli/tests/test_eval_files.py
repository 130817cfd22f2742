"""Questions, judgments and accepted answers that are read from files."""

import json

import pytest

from aquifer_cli.errors import CommandError
from aquifer_cli.evaluation import files
from aquifer_cli.evaluation.files import Question
from aquifer_cli.names import id_from_foreign

HEADER = "query-id\tcorpus-id\tscore\n"


def write(path, content):
    path.write_text(content if isinstance(content, str) else "\n".join(map(json.dumps, content)))
    return path


def refused(work):
    with pytest.raises(CommandError) as refusal:
        work()
    assert refusal.value.exit_code == 2
    return refusal.value


def test_queries_are_read_in_the_order_of_the_file(tmp_path):
    rows = '\ufeff{"_id": 2, "text": "why"}\n\n{"_id": "1", "text": "how"}\n'
    file = write(tmp_path / "q.jsonl", rows)
    assert files.read_queries(file) == [Question(id="2", text="why"), Question(id="1", text="how")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"_id": "1"}', '"text" is missing'),
        ('{"_id": "", "text": "why"}', "the _id is empty"),
        ('{"text": "why"}', '"_id" is missing'),
        ('{"_id": "0", "text": "why"}', "'0' occurs twice"),
        ('{"_id": "1", "text": " "}', "1 to 4,000"),
        ('{"_id": "1", "text": "' + "x" * 4_001 + '"}', "4,001 characters"),
        ("[1]", "not an object"),
        ("{", "not JSON"),
        ('{"_id": "1", "text": ' + "[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_query_is_refused_with_its_line(tmp_path, row, said):
    file = write(tmp_path / "q.jsonl", '{"_id": "0", "text": "how"}\n' + row)
    error = refused(lambda: files.read_queries(file))
    assert error.reason == "LINE_UNREADABLE"
    assert f"{file}:2: " in error.detail
    assert said in error.detail


@pytest.mark.parametrize("read", [files.read_queries, files.read_questions])
def test_a_file_without_lines_or_that_is_absent_is_refused(tmp_path, read):
    assert refused(lambda: read(write(tmp_path / "q.jsonl", "\n \n"))).reason == "FILE_EMPTY"
    assert refused(lambda: read(tmp_path / "none.jsonl")).reason == "FILE_UNREADABLE"


def test_questions_say_whether_they_are_answerable(tmp_path):
    rows = [
        {"_id": "a", "question": "how deep", "answers": ["62 m", "62 metres"], "answerable": True},
        {"_id": "b", "question": "how old", "answers": []},
    ]
    assert files.read_questions(write(tmp_path / "q.jsonl", rows)) == [
        Question(id="a", text="how deep", answers=["62 m", "62 metres"], answerable=True),
        Question(id="b", text="how old", answers=[], answerable=False),
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answers": "62 m"}, '"answers" is missing or not a list'),
        ({"answers": None}, '"answers" is missing or not a list'),
        ({"answers": [62]}, '"answers" is missing or not a list'),
        ({"answers": ["62 m", " "]}, "is empty"),
        ({"answerable": "yes"}, '"answerable" is not true or false'),
        ({"answerable": False}, "no other question has"),
        ({"answers": []}, "an answerable question has answers"),
        ({"question": "x" * 4_001}, "4,001 characters"),
        ({"_id": None}, '"_id" is missing'),
    ],
)
def test_a_bad_question_is_refused_with_its_line(tmp_path, changed, said):
    row = {"_id": "a", "question": "how deep", "answers": ["62 m"], "answerable": True} | changed
    file = write(tmp_path / "q.jsonl", [row])
    error = refused(lambda: files.read_questions(file))
    assert error.reason == "LINE_UNREADABLE"
    assert f"{file}:1: " in error.detail
    assert said in error.detail


def test_judgments_are_by_question_and_document(tmp_path):
    # The id of a document is changed as it is at the import.
    rows = "q1\td1\t2\nq1\td2\t0\r\nq2\ta/b\t-1\nq1\td1\t2\n"
    known = {"d1", "d2", id_from_foreign("a/b")}
    judged = files.read_judgments(write(tmp_path / "q.tsv", HEADER + rows), {"q1", "q2"}, known)
    assert judged == {"q1": {"d1": 2, "d2": 0}, "q2": {id_from_foreign("a/b"): -1}}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("q1\td1", "2 columns, not 3"),
        ("q1 0 d1 1", "1 columns, not 3"),
        ("q1\td1\t1\t1", "4 columns, not 3"),
        ("q1\td1\tmuch", "'much' is not a whole number"),
        ("q1\td1\t0.5", "'0.5' is not a whole number"),
        ("q1\td1\t1001", "not a whole number from -1000 to 1000"),
        ("q1\td1\t" + "9" * 5_000, "not a whole number"),
        ("q9\td1\t1", "no question has the _id 'q9'"),
        ("q1\td9\t1", "no document has the _id 'd9'"),
        ("q1\td2\t0", "another score above"),
    ],
)
def test_a_bad_judgment_is_refused_with_its_line(tmp_path, row, said):
    file = write(tmp_path / "q.tsv", f"{HEADER}q1\td2\t1\n{row}\n")
    error = refused(lambda: files.read_judgments(file, {"q1"}, {"d1", "d2"}))
    assert error.reason == "LINE_UNREADABLE"
    assert f"{file}:3: " in error.detail
    assert said in error.detail


def test_an_unknown_document_says_what_to_do(tmp_path):
    file = write(tmp_path / "q.tsv", f"{HEADER}q1\td2\t1\n")
    error = refused(lambda: files.read_judgments(file, {"q1"}, {"d1"}, unknown_hint="look again"))
    assert error.hint == "look again"


def test_every_bad_judgment_is_told(tmp_path):
    file = write(tmp_path / "q.tsv", HEADER + "q1\td1\nq2\td1\t1\n")
    detail = refused(lambda: files.read_judgments(file, {"q1"}, {"d1"})).detail
    assert [line.split(": ")[0] for line in detail.splitlines()] == [f"{file}:2", f"{file}:3"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "FILE_EMPTY"),
        ("q1\td1\t1\n", "LINE_UNREADABLE"),
        (HEADER, "NOTHING_JUDGED"),
        (HEADER + "q1\td1\t0\n", "NOTHING_JUDGED"),
    ],
)
def test_a_file_without_judgments_is_refused(tmp_path, content, reason):
    file = write(tmp_path / "q.tsv", content)
    assert refused(lambda: files.read_judgments(file, {"q1"}, {"d1"})).reason == reason


def test_judgments_that_are_not_utf8_are_refused(tmp_path):
    file = tmp_path / "q.tsv"
    file.write_bytes(HEADER.encode() + b"q1\td\xff\t1\n")
    error = refused(lambda: files.read_judgments(file, {"q1"}, {"d1"}))
    assert (error.reason, f"{file}:2: " in error.detail) == ("LINE_UNREADABLE", True)


def test_a_sample_is_the_same_for_a_seed_and_keeps_the_order():
    questions = [Question(id=str(number), text="why") for number in range(100)]
    drawn = [int(one.id) for one in files.sample(questions, 10, seed=1)]
    assert drawn == sorted(drawn) == [int(one.id) for one in files.sample(questions, 10, seed=1)]
    assert len(set(drawn)) == 10
    assert drawn != [int(one.id) for one in files.sample(questions, 10, seed=2)]
    assert files.sample(questions, 0, seed=1) == files.sample(questions, 100, seed=1) == questions
