"""Files of runs, what is shown of them, and their plots."""

import json
import struct

import pytest

from aquifer_cli.errors import CommandError
from aquifer_cli.evaluation import extra, plot, report
from aquifer_cli.evaluation.calls import Failure
from aquifer_cli.evaluation.corpus import Documents
from aquifer_cli.evaluation.figures import Measured, compare, estimate
from aquifer_cli.evaluation.intervals import Judged
from aquifer_cli.evaluation.runs import (
    RunFile,
    describe_settings,
    list_changes,
    list_versions,
    read_run,
)
from aquifer_cli.screen import Screen

MEASURED = Measured(means={"nDCG@10": {"a": 1.0, "b": 0.5, "c": 0.25}, "MRR@10": {}})
RETRIEVAL = {"a": {"figures": {}, "ranking": ["d1", "d2"]}, "b": {"figures": {}, "ranking": []}}
ANSWERS = {
    "a": {"figures": {"no_answer": 0.0}, "answerable": True, "confidence": 0.5},
    "b": {"figures": {"no_answer": 1.0}, "answerable": False, "confidence": None},
}


def run_of(questions, kind="retrieval", **changed):
    made = {
        "kind": kind,
        "time": "2026-01-02T03:04:05+00:00",
        "settings": {"collection": "papers"},
        "versions": list_versions(),
        "documents": Documents(
            total=5, indexed=3, sent=4, not_indexed={"EMPTY_DOCUMENT": 2}, seconds=1.5
        ),
        "counts": {"questions": 3, "without_any_hit": 0, "hits_of_other_documents": 0},
        "seconds": 2.5,
        "failures": [],
        "figures": estimate(MEASURED),
        "questions": questions,
    }
    return RunFile(**(made | changed))


def write(path, run):
    path.write_bytes(run.encode())
    return path


def test_a_run_is_read_as_it_was_written(tmp_path):
    other = read_run(write(tmp_path / "r.json", run_of(RETRIEVAL)), "retrieval")
    assert other.rankings() == {"a": ["d1", "d2"], "b": []}
    assert (other.name, other.time) == ("r.json", "2026-01-02T03:04:05+00:00")
    assert other.settings == {"collection": "papers"}
    other = read_run(write(tmp_path / "a.json", run_of(ANSWERS, kind="answers")), "answers")
    assert other.figures() == {"a": {"no_answer": 0.0}, "b": {"no_answer": 1.0}}
    assert other.judged() == {"a": Judged(answerable=True, confidence=0.5)}


def test_a_run_file_has_versions_and_what_is_measured(tmp_path):
    content = json.loads(run_of(RETRIEVAL).encode())
    assert content["format"] == 1
    assert {"python", "aquifer-cli", "ir-measures", "scipy"} <= set(content["versions"])
    assert content["documents"]["not_indexed"] == {"EMPTY_DOCUMENT": 2}
    assert content["figures"]["nDCG@10"]["questions"] == 3
    assert content["figures"]["MRR@10"] is None
    assert run_of(RETRIEVAL).summary()["questions"] == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b'{"format": 2, "kind": "retrieval", "questions": {}}',
        b'{"format": 1, "kind": "answers", "questions": {}}',
        b'{"format": 1, "kind": "retrieval"}',
        b'{"format": 1, "kind": "retrieval", "questions": {"a": {"ranking": [1]}}}',
        b'{"format": 1, "kind": "retrieval", "questions": {"a": 1}}',
    ],
)
def test_what_is_no_run_is_refused(tmp_path, content):
    file = tmp_path / "r.json"
    file.write_bytes(content)
    with pytest.raises(CommandError) as refused:
        read_run(file, "retrieval")
    assert (refused.value.reason, refused.value.exit_code) == ("RUN_UNREADABLE", 2)
    with pytest.raises(CommandError) as refused:
        read_run(tmp_path / "none.json", "retrieval")
    assert refused.value.reason == "FILE_UNREADABLE"


@pytest.mark.parametrize(
    "row",
    [
        {"answerable": True, "confidence": 0.5},
        {"figures": {"no_answer": "1"}, "answerable": True, "confidence": 0.5},
        {"figures": {}, "answerable": 1, "confidence": 0.5},
        {"figures": {}, "answerable": True},
        {"figures": {}, "answerable": True, "confidence": "high"},
    ],
)
def test_a_run_of_answers_that_misses_something_is_refused(tmp_path, row):
    file = write(tmp_path / "a.json", run_of({"a": row}, kind="answers"))
    with pytest.raises(CommandError) as refused:
        read_run(file, "answers")
    assert refused.value.reason == "RUN_UNREADABLE"


def test_settings_differ_by_content_and_not_by_the_name_of_a_file(tmp_path):
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(text)
    a, b, c = (describe_settings({"corpus": tmp_path / name}, limit=100) for name in "abc")
    assert list_changes(a, b) == []
    assert list_changes(a, c) == ["corpus"]
    assert list_changes(a, b | {"limit": 10, "model": "m"}) == ["limit", "model"]


def shown(capsys, work):
    work(Screen(machine=False))
    return capsys.readouterr().out


def test_people_see_documents_counts_failures_and_figures(capsys):
    failures = [Failure(question="x", reason="QUESTION_LENGTH", detail="")]
    run = run_of(RETRIEVAL, failures=failures)
    assert shown(capsys, lambda screen: report.show_run(screen, run)).splitlines() == [
        "documents: 3 of 5 indexed, 4 sent now; not indexed: 2 EMPTY_DOCUMENT",
        "3 questions, 0 without any hit",
        "questions without a result, in no figure: 1 QUESTION_LENGTH",
        "",
        "figure   value  95 % interval   questions",
        "nDCG@10  0.583  0.250 to 1.000          3",
        "MRR@10   none                           0",
    ]


def test_people_and_programs_get_the_differences_and_the_verdict(tmp_path, capsys):
    run = run_of(RETRIEVAL)
    other = read_run(
        write(tmp_path / "r.json", run_of(RETRIEVAL, settings={"collection": "x"})), "retrieval"
    )
    theirs = Measured(means={"nDCG@10": {"a": 0.5, "b": 0.0}, "MRR@10": {"a": 1.0}})
    differences = compare(MEASURED, theirs)
    text = shown(
        capsys, lambda screen: report.show_comparison(screen, run, other, differences, "nDCG@10")
    )
    verdict = (
        "This run is better than r.json by nDCG@10 (+0.500, 95 % interval +0.500 to +0.500,"
        " p = 0.0002, 2 questions)."
    )
    assert text.splitlines() == [
        "",
        "against r.json of 2026-01-02T03:04:05+00:00",
        "settings that differ: collection",
        "figure   difference  95 % interval     p       questions",
        "nDCG@10  +0.500      +0.500 to +0.500  0.0002          2",
        "MRR@10   none                                          0",
        "",
        verdict,
    ]
    record = report.as_json(run, other, differences, "nDCG@10")
    against = json.loads(json.dumps(record))["against"]
    assert against["verdict"] == verdict
    assert against["settings_that_differ"] == ["collection"]
    assert against["differences"]["nDCG@10"]["value"] == 0.5
    assert against["differences"]["MRR@10"] is None


@pytest.mark.parametrize("compared", [False, True])
def test_a_plot_is_a_png_of_a_readable_size(compared):
    values = MEASURED.means["nDCG@10"]
    ours = plot.Series(name="ours", figures=estimate(MEASURED), values=values)
    theirs = plot.Series(name="theirs", figures=estimate(MEASURED), values={"a": 0.5})
    drawn = plot.draw("a title", "nDCG@10", ours, theirs if compared else None)
    assert drawn[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", drawn[16:24])
    assert (width, height) == (1_800, 600)


def test_a_plot_takes_any_name_and_runs_without_common_questions():
    ours = plot.Series(name=r"$\no$.json", figures=estimate(MEASURED), values={"a": 1.0})
    none = Measured(means={"nDCG@10": {}})
    theirs = plot.Series(name="\u8bc4\u4f30.json", figures=estimate(none), values={})
    drawn = plot.draw(r"\frac$x$", "nDCG@10", ours, theirs)
    assert drawn.startswith(b"\x89PNG")
    plot.draw("nothing", "nDCG@10", theirs, ours)


def test_a_missing_library_is_told_with_how_to_install_it(monkeypatch):
    extra.require_libraries()
    monkeypatch.setattr(extra, "LIBRARIES", ("json", "no_such_library"))
    with pytest.raises(CommandError) as refused:
        extra.require_libraries()
    assert refused.value.reason == "EXTRA_MISSING"
    assert refused.value.detail.endswith(": no_such_library")
    assert refused.value.hint == "pip install 'aquifer-cli[eval]'"
