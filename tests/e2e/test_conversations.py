"""`aquifer chat` with questions from a pipe, and the commands for conversations."""

import json
import uuid

import pytest

pytestmark = pytest.mark.timeout(300)

WELL = """# The well of Brunnen

The well of Brunnen is forty metres deep. It was dug by monks in the year 1412.

The water of the well is tested twice a year, in spring and in autumn.
"""
FIRST = "How deep is the well of Brunnen?"
SECOND = "And who dug it?"


@pytest.fixture(scope="module")
def well(stack, tmp_path_factory):
    """A document in a collection of its own."""
    file = tmp_path_factory.mktemp("well") / "well.md"
    file.write_text(WELL)
    stack.json("upload", str(file), "-c", "wells", "--wait")
    return "wells"


def chat(stack, *arguments, typed: str) -> tuple[str, list[list[dict]]]:
    """The id of the conversation, and the steps of each answer."""
    answers: list[list[dict]] = []
    for step in stack.json("chat", *arguments, typed=typed):
        if step["step"] == "question":
            answers.append([])
            conversation = step["conversation"]
        answers[-1].append(step)
    return conversation, answers


def test_questions_from_a_pipe_are_answered_in_one_conversation(stack, well):
    conversation, answers = chat(stack, "-c", well, typed=f"{FIRST}\n\n{SECOND}\n")
    assert [one[0]["text"] for one in answers] == [FIRST, SECOND]
    for steps in answers:
        assert [steps[1]["step"], steps[-1]["step"]] == ["started", "finished"]
        assert steps[-1]["reason"] == "STOP"
    quotes = [" ".join(one["quote"] for one in steps if "quote" in one) for steps in answers]
    assert "forty metres" in quotes[0]
    assert "monks" in quotes[1]

    head, *messages = stack.json("conversations", "show", conversation)
    assert (head["title"], head["collections"], head["messages"]) == (FIRST, [well], 4)
    assert [one["role"] for one in messages] == ["user", "assistant"] * 2
    assert [one["text"] for one in messages[::2]] == [FIRST, SECOND]
    assert [one["answer"] for one in messages[1::2]] == [one[1]["answer"] for one in answers]
    assert "monks" in messages[3]["text"]
    listed = stack.json("conversations", "list")
    assert listed[0] == head


def test_a_conversation_goes_on_is_renamed_and_deleted(stack, well):
    conversation, _ = chat(stack, "-c", well, typed=FIRST)
    again, _ = chat(stack, "--conversation", conversation, "--model", "extractive", typed=SECOND)
    assert again == conversation
    [renamed] = stack.json("conversations", "rename", conversation, "Wells")
    assert (renamed["title"], renamed["model"], renamed["messages"]) == ("Wells", "extractive", 4)
    shown = stack.run("conversations", "show", conversation)
    assert (shown.returncode, shown.stdout.splitlines()[0]) == (0, "Wells")
    assert f"> {SECOND}" in shown.stdout
    table = stack.run("conversations", "list").stdout
    assert table.split()[:2] == ["conversation", "messages"]
    assert conversation in table
    assert stack.run("conversations", "delete", conversation).returncode == 0
    [gone] = stack.json("conversations", "show", conversation)
    assert gone["error"]["reason"] == "CONVERSATION_UNKNOWN"


def test_an_answer_of_a_conversation_gets_feedback(stack, well):
    _, [steps] = chat(stack, "-c", well, typed=FIRST)
    answer = steps[1]["answer"]
    [given] = stack.json("feedback", answer, "bad", "--reason", "too short")
    assert given == {"answer": answer, "rating": "bad", "reason": "too short"}
    [unknown] = stack.json("feedback", str(uuid.uuid4()), "good")
    assert unknown["error"]["reason"] == "ANSWER_UNKNOWN"


def test_answers_are_exported_and_good_ones_are_questions_to_measure_with(stack, well, tmp_path):
    conversation, [first, second] = chat(stack, "-c", well, typed=f"{FIRST}\n{SECOND}\n")
    for steps in (first, second):
        stack.json("feedback", steps[1]["answer"], "good", "--reason", "right")
    file = tmp_path / "answers.jsonl"
    [counts] = stack.json("conversations", "export", "--output", str(file))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert counts == {"output": str(file), "answers": len(rows), "withheld": 0}
    own = [one for one in rows if one["conversation"] == conversation]
    assert [(one["question"], one["message"]) for one in own] == [(FIRST, 2), (SECOND, 4)]
    assert own[0]["answer"] == first[1]["answer"]
    assert own[0]["settings"]["collections"] == [well]
    assert own[0]["feedback"]["reason"] == "right"
    assert "forty metres" in own[0]["citations"][0]["passage"]["text"]
    _, _, shown, *_ = stack.json("conversations", "show", conversation)
    assert shown["citations"] == own[0]["citations"]
    everybody = stack.json("conversations", "export", "--output", str(file), "--all")
    assert everybody[0]["answers"] >= len(rows)

    queries, qrels = str(tmp_path / "queries.jsonl"), str(tmp_path / "qrels.tsv")
    options = ("--queries", queries, "--qrels", qrels, "-c", well)
    [written] = stack.json("eval", "feedback", *options)
    assert written == {"questions": 1, "left_out": 1}
    [record] = stack.json("eval", "retrieval", *options)
    assert record["documents"]["sent"] == 0
    assert record["figures"]["Recall@10"]["value"] == 1


def test_for_people_it_shows_text_citations_and_how_to_go_on(stack, well):
    done = stack.run("chat", "-c", well, typed=FIRST)
    assert done.returncode == 0
    assert "forty metres" in done.stdout
    assert "collections/wells/documents/well.md v1" in done.stdout
    assert "chat --conversation" in done.stderr


def test_a_question_that_fails_does_not_end_the_chat(stack, well):
    typed = f"{'x' * 4_001}\n{FIRST}\n"
    done = stack.run("chat", "-c", well, typed=typed)
    assert done.returncode == 1
    assert "QUESTION_LENGTH" in done.stderr
    assert "forty metres" in done.stdout


def test_attached_files_are_answered_from_until_they_are_detached(stack, well, tmp_path):
    file = tmp_path / "note.md"
    file.write_text("# The well of Quellen\n\nThe well of Quellen is sixty metres deep.\n")
    sent, *steps = stack.json("chat", "--attach", str(file), typed="How deep is the well?")
    assert (sent["step"], sent["state"]) == ("file", "INDEXED")
    note = sent["document"]
    assert note.startswith("collections/attachments/documents/note.md~~")
    assert [one["passage"]["document"] for one in steps if "passage" in one] == [note]

    conversation = steps[0]["conversation"]
    other = tmp_path / "other.md"
    other.write_text("# Bread\n\nBread of Altdorf is baked on Mondays.\n")
    arguments = ("--conversation", conversation, "--attach", str(other), "--attach-to", "bakery")
    added, *steps = stack.json("chat", *arguments, typed="When is bread of Altdorf baked?")
    assert "Mondays" in " ".join(one["quote"] for one in steps if "quote" in one)
    head = stack.json("conversations", "show", conversation)[0]
    assert head["documents"] == [note, added["document"]]
    assert stack.json("conversations", "list")[0] == head
    assert f"{note}, {added['document']}" in stack.run("conversations", "show", conversation).stderr
    export = tmp_path / "answers.jsonl"
    stack.json("conversations", "export", "--output", str(export))
    rows = [json.loads(line) for line in export.read_text().splitlines()]
    own = [one for one in rows if one["conversation"] == conversation]
    assert [one["settings"]["documents"] for one in own] == [[note], [note, added["document"]]]

    _, [steps] = chat(
        stack, "--conversation", conversation, "--no-attached", "-c", well, typed=FIRST
    )
    assert "forty metres" in " ".join(one["quote"] for one in steps if "quote" in one)
    assert stack.json("conversations", "show", conversation)[0]["documents"] == []
    assert stack.run("conversations", "delete", conversation).returncode == 0
    [kept] = stack.json("status", note)
    assert kept["state"] == "INDEXED"


def test_a_file_that_cannot_be_attached_ends_the_chat_before_the_first_question(stack, tmp_path):
    file = tmp_path / "empty.txt"
    file.touch()
    before = stack.json("conversations", "list")
    sent, failed = stack.json("chat", "--attach", str(file), typed=FIRST)
    assert (sent["state"], failed["error"]["reason"]) == ("REFUSED", "EMPTY_DOCUMENT")
    assert stack.json("conversations", "list") == before


def test_a_conversation_or_collection_that_is_not_there_is_refused(stack):
    [unknown] = stack.json("chat", "--conversation", str(uuid.uuid4()), typed=FIRST)
    assert unknown["error"]["reason"] == "CONVERSATION_UNKNOWN"
    [missing] = stack.json("chat", "-c", "welsl", typed=FIRST)
    assert missing["error"]["reason"] == "NOT_FOUND"
