"""`aquifer eval` on a running stack: figures, runs that are compared, plots, and failures."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)

DOCUMENTS = {
    "lamp": ("The lighthouse lamp", "The lamp of the lighthouse is lit at dusk by the keeper."),
    "bees": ("Bees in winter", "In winter the bees form a cluster and eat 12 kilograms of honey."),
    "bread": ("Rye bread", "Rye bread rises for nine hours and is baked in a stone oven."),
    "tram": ("The first tram", "The first tram of the town ran in 1894, drawn by two horses."),
    "seeds": ("Seeds of the oak", "Acorns are dispersed by jays, which hide them in autumn."),
    "paper": ("Paper from rags", "Rags were beaten to pulp before paper was made of wood."),
}
QUERIES = {
    "q1": ("Who lights the lamp of the lighthouse?", "lamp"),
    "q2": ("How much honey do bees eat in winter?", "bees"),
    "q3": ("How long does rye bread rise?", "bread"),
    "q4": ("When did the first tram run?", "tram"),
}
ANSWERS = {"q1": "the keeper", "q2": "12 kilograms", "q3": "nine hours", "q4": "1894"}
UNANSWERABLE = ("Who painted the ceiling of the chapel?", "What is the capital of Peru?")


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "village"
    folder.mkdir()
    corpus = [
        {"_id": name, "title": title, "text": text} for name, (title, text) in DOCUMENTS.items()
    ]
    judged = "".join(f"{name}\t{document}\t1\n" for name, (_, document) in QUERIES.items())
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    questions = [
        {"_id": name, "question": text, "answers": [ANSWERS[name]], "answerable": True}
        for name, (text, _) in QUERIES.items()
    ]
    questions += [
        {"_id": f"no{number}", "question": text, "answers": [], "answerable": False}
        for number, text in enumerate(UNANSWERABLE)
    ]
    return {
        "corpus": write(
            folder / "corpus.jsonl", [*corpus, {"_id": "void", "title": "", "text": ""}]
        ),
        "passages": write(folder / "passages.jsonl", corpus),
        "queries": write(
            folder / "queries.jsonl",
            [{"_id": name, "text": text} for name, (text, _) in QUERIES.items()],
        ),
        "qrels": str(folder / "qrels.tsv"),
        "questions": write(folder / "questions.jsonl", questions),
    }


def test_retrieval_is_measured_and_compared(stack, tmp_path, files):
    options = [
        item for name in ("corpus", "queries", "qrels") for item in (f"--{name}", files[name])
    ]
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    [record] = stack.json("eval", "retrieval", *options, "--out", str(first))
    assert record["settings"]["collection"] == "eval-village"
    assert record["documents"]["not_indexed"] == {"EMPTY_DOCUMENT": 1}
    assert (record["documents"]["indexed"], record["documents"]["sent"]) == (6, 6)
    assert record["counts"] == {
        "questions": 4,
        "without_any_hit": 0,
        "without_a_relevant_document": 0,
        "hits_of_other_documents": 0,
    }
    assert {name: one["value"] for name, one in record["figures"].items()} == {
        "nDCG@10": 1,
        "Recall@10": 1,
        "Recall@100": 1,
        "MRR@10": 1,
    }
    assert record["failures"] == []

    # A run in which two questions found nothing.
    other = json.loads(first.read_text())
    assert other["questions"]["q1"]["ranking"][0] == "lamp"
    for question in ("q1", "q2"):
        other["questions"][question]["ranking"] = []
    worse = tmp_path / "worse.json"
    worse.write_text(json.dumps(other))
    plot = tmp_path / "plot.png"
    more = ("--against", str(worse), "--plot", str(plot), "--out", str(second))
    done = stack.run("eval", "retrieval", *options, *more)
    assert done.returncode == 0, done.stderr
    # What is indexed is not sent again.
    assert "documents: 6 of 7 indexed, 0 sent now; not indexed: 1 EMPTY_DOCUMENT" in done.stdout
    assert "against worse.json of " in done.stdout
    assert "nDCG@10     +0.500" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("No difference of nDCG@10 from worse.json")
    assert plot.read_bytes().startswith(b"\x89PNG")
    again = json.loads(second.read_text())
    assert again["questions"] == json.loads(first.read_text())["questions"]


def test_answers_are_measured_and_compared(stack, tmp_path, files):
    options = ["--questions", files["questions"], "--passages", files["passages"]]
    options += ["-c", "village-answers", "--model", "extractive"]
    run, plot = tmp_path / "run.json", tmp_path / "plot.png"
    [record] = stack.json("eval", "answers", *options, "--out", str(run))
    figures = record["figures"]
    assert (figures["answer_in_passages"]["value"], figures["answer_in_passages"]["questions"]) == (
        1,
        4,
    )
    assert figures["answer_in_quotes"]["value"] == 1
    assert figures["citations_valid"]["value"] == 1
    assert figures["no_answer"]["questions"] == 6
    assert figures["no_answer_if_answerable"]["value"] == 0
    assert figures["abstention_auroc"]["value"] == 1
    assert record["counts"]["with_a_confidence"] == 6
    assert record["counts"]["citations_that_are_not_valid"] == 0
    assert record["counts"]["citations_of_other_documents"] == 0
    assert record["settings"]["models"] == ["extractive"]

    more = ("--against", str(run), "--plot", str(plot))
    done = stack.run("eval", "answers", *options, *more)
    assert done.returncode == 0, done.stderr
    assert "documents: 6 of 6 indexed, 0 sent now" in done.stdout
    assert "abstention AUROC           +0.000" in done.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")

    [sampled] = stack.json("eval", "answers", *options, "--limit", "2")
    assert sampled["questions"] == 2


def test_without_an_indexed_document_nothing_is_measured(stack, tmp_path, files):
    files["passages"] = write(tmp_path / "void.jsonl", [{"_id": "void", "title": "", "text": ""}])
    options = ["--questions", files["questions"], "--passages", files["passages"]]
    [failed] = stack.json("eval", "answers", *options, "-c", "village-void")
    assert failed["error"]["reason"] == "CORPUS_INCOMPLETE"
    assert "1 of 1 documents are not indexed: 1 EMPTY_DOCUMENT" in failed["error"]["detail"]


def test_what_cannot_be_measured_is_an_error(stack, tmp_path, files):
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tnowhere\t1\n")
    files["qrels"] = str(tmp_path / "qrels.tsv")
    options = [
        item for name in ("corpus", "queries", "qrels") for item in (f"--{name}", files[name])
    ]
    done = stack.run("eval", "retrieval", *options, "-c", "unsent", "--json")
    failed = json.loads(done.stdout)
    assert (done.returncode, failed["error"]["reason"]) == (2, "LINE_UNREADABLE")
    assert f"{files['qrels']}:2: no document has the _id 'nowhere'" in failed["error"]["detail"]
    assert stack.json("documents", "-c", "unsent") == []
    options = ["--questions", files["questions"], "--passages", files["passages"]]
    [failed] = stack.json("eval", "answers", *options, "-c", "village-answers", "--model", "none")
    assert failed["error"]["reason"] == "MODEL_UNKNOWN"
