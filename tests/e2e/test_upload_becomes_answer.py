"""From an upload to a cited answer, by the command, as a person would."""

import json
import time

import pytest

from testkit.pdf import lines, pdf

pytestmark = pytest.mark.timeout(300)

HANDBOOK = """# Handbook of the ferry

The ferry leaves the north pier at seven in the morning and at four in the afternoon.

Bicycles are carried free of charge. Dogs need a ticket of two euros.
"""


@pytest.fixture(scope="module")
def uploaded(stack, tmp_path_factory):
    file = tmp_path_factory.mktemp("docs") / "ferry.md"
    file.write_text(HANDBOOK)
    [outcome] = stack.json("upload", str(file), "--collection", "ferry", "--wait")
    return outcome


def test_an_upload_ends_indexed(uploaded):
    assert uploaded["document"] == "collections/ferry/documents/ferry.md"
    assert (uploaded["version"], uploaded["state"], uploaded["reason"]) == (1, "INDEXED", "")


def test_the_same_bytes_again_change_nothing(stack, uploaded):
    [outcome] = stack.json("upload", uploaded["path"], "--collection", "ferry", "--wait")
    assert outcome["version"] == 1


def test_a_search_finds_it(stack, uploaded):
    hits = stack.json("search", "when does the ferry leave?", "--collection", "ferry")
    assert hits[0]["document"] == uploaded["document"]
    assert "seven in the morning" in hits[0]["text"]


def test_an_answer_quotes_it_verbatim(stack, uploaded):
    steps = stack.json("ask", "When does the ferry leave the north pier?", "-c", "ferry")
    assert [steps[0]["step"], steps[-1]["step"]] == ["started", "finished"]
    assert steps[-1]["reason"] == "STOP"
    assert steps[-1]["generative"] is False
    citations = [step for step in steps if step["step"] == "citation"]
    assert citations
    for citation in citations:
        text = citation["passage"]["text"]
        assert text[citation["quote_start"] : citation["quote_end"]] == citation["quote"]
    assert "seven in the morning" in "".join(s["text"] for s in steps if s["step"] == "delta")


def test_a_citation_names_the_page_on_which_its_quote_stands(stack, tmp_path):
    file = tmp_path / "lighthouse.pdf"
    file.write_bytes(
        pdf(
            lines(b"The lighthouse was built of granite."),
            lines(b"Its lamp burns whale oil."),
            lines(b"The keeper winds the clockwork every four hours."),
        )
    )
    stack.json("upload", str(file), "--collection", "coast", "--wait")
    steps = stack.json("ask", "How often does the keeper wind the clockwork?", "-c", "coast")
    citations = [step for step in steps if step["step"] == "citation"]
    [citation] = [one for one in citations if "clockwork" in one["quote"]]
    assert (citation["passage"]["page"], citation["page"]) == (1, 3)


def test_a_question_the_documents_do_not_answer_is_refused(stack, uploaded):
    steps = stack.json("ask", "Who painted the Mona Lisa?", "-c", "ferry")
    assert steps[-1]["reason"] == "NO_ANSWER"
    assert not [step for step in steps if step["step"] == "citation"]


def test_metadata_comes_back_with_passages_and_changes_without_a_new_version(stack, tmp_path):
    file = tmp_path / "harbour.jsonl"
    line = {"_id": "buoy", "text": "The red buoy marks the channel.", "metadata": {"by": "Ada"}}
    file.write_text(json.dumps(line))
    stack.json("import", str(file), "--collection", "harbour", "--wait")
    [hit] = stack.json("search", "red buoy", "--collection", "harbour")
    assert (hit["version"], hit["metadata"]) == (1, {"by": "Ada"})
    file.write_text(json.dumps(line | {"metadata": {"by": "Bea"}}))
    stack.json("import", str(file), "--collection", "harbour", "--wait")
    waited_until = time.monotonic() + 20
    while hit["metadata"] != {"by": "Bea"} and time.monotonic() < waited_until:
        [hit] = stack.json("search", "red buoy", "--collection", "harbour")
    assert (hit["version"], hit["metadata"]) == (1, {"by": "Bea"})


def test_typed_metadata_is_the_same_wherever_it_is_read(stack, tmp_path):
    typed = {"year": 2020, "public": True, "tags": ["a"]}
    file = tmp_path / "pilots.jsonl"
    text = "The pilot boards the ship at the outer buoy."
    file.write_text(json.dumps({"_id": "pilot", "text": text, "metadata": typed}))
    stack.json("import", str(file), "--collection", "pilots", "--wait")
    assert read_metadata(stack) == [as_text(typed)] * 3
    changes = ["--metadata", "year=2020", "--metadata", 'tags:=["a", 1.5]', "--unset", "public"]
    [updated] = stack.json("update", "pilot", "-c", "pilots", "--title", "Pilots", *changes)
    assert (updated["version"], updated["title"]) == (1, "Pilots")
    changed = {"year": "2020", "tags": ["a", 1.5]}
    assert as_text(updated["metadata"]) == as_text(changed)
    waited_until = time.monotonic() + 20
    while read_metadata(stack) != [as_text(changed)] * 3:
        assert time.monotonic() < waited_until
    search = ("search", "where does the pilot board?", "-c", "pilots", "--filter")
    while not stack.json(*search, 'metadata.year = "2020" AND metadata.tags:1.5'):
        assert time.monotonic() < waited_until
    assert stack.json(*search, "metadata.year = 2020 OR metadata.public:*") == []


def as_text(metadata):
    """JSON, which tells 2020 from 2020.0, "2020" and True."""
    return json.dumps(metadata, sort_keys=True)


def read_metadata(stack):
    """What documents, search and ask say of the pilots."""
    [document] = stack.json("documents", "-c", "pilots")
    [hit] = stack.json("search", "where does the pilot board?", "-c", "pilots")
    steps = stack.json("ask", "Where does the pilot board the ship?", "-c", "pilots")
    [cited] = [step["passage"] for step in steps if step["step"] == "citation"]
    return [as_text(one["metadata"]) for one in (document, hit, cited)]


def test_a_new_version_replaces_the_old_one(stack, uploaded, tmp_path):
    file = tmp_path / "ferry.md"
    file.write_text(HANDBOOK.replace("seven in the morning", "eight in the morning"))
    [outcome] = stack.json("upload", str(file), "--collection", "ferry", "--wait")
    assert (outcome["version"], outcome["state"]) == (2, "INDEXED")
    hits = stack.json("search", "when does the ferry leave?", "--collection", "ferry")
    assert "eight in the morning" in hits[0]["text"]
    assert not [hit for hit in hits if hit["version"] == 1]


def test_a_deleted_document_is_not_found(stack, tmp_path):
    file, other = tmp_path / "secret.txt", tmp_path / "other.txt"
    file.write_text("The vault opens with the word heliotrope.")
    other.write_text("The vault is closed on Sundays.")
    outcome, _ = stack.json("upload", str(file), str(other), "--collection", "vault", "--wait")
    assert len(stack.json("search", "heliotrope", "--collection", "vault")) == 2
    [deleted] = stack.json("delete", outcome["document"])
    assert deleted["state"] in ("DELETING", "DELETED")
    [left] = stack.json("search", "heliotrope", "--collection", "vault")
    assert left["document"] != outcome["document"]
    again = stack.run("delete", outcome["document"])
    assert again.returncode == 0


def test_import_writes_a_run(stack, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        '{"_id": "a", "title": "Bees", "text": "Bees make honey from nectar."}\n'
        '{"_id": "b", "title": "Wolves", "text": "Wolves hunt in packs at night."}\n'
    )
    outcomes = stack.json("import", str(corpus), "--collection", "zoo", "--wait")
    assert [outcome["state"] for outcome in outcomes] == ["INDEXED", "INDEXED"]
    queries, run = tmp_path / "queries.jsonl", tmp_path / "run.txt"
    queries.write_text('{"_id": "q1", "text": "who makes honey"}\n')
    stack.json("search", "--queries", str(queries), "--run", str(run), "-c", "zoo", "--limit", "5")
    first = run.read_text().splitlines()[0].split()
    assert first[:4] == ["q1", "Q0", "a", "1"]
