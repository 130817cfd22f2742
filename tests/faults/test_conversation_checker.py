"""The checker of conversations finds each defect in what two people may have left."""

from collections.abc import Callable
from copy import deepcopy

import pytest

from aquifer.query.v1.conversation_service_pb2 import MESSAGE_ROLE_ASSISTANT, Message
from tests.faults.conversation_checker import (
    UNKNOWN,
    conversation_violations,
    count_conversations,
)
from tests.faults.conversation_evidence import ConversationEvidence
from tests.faults.journal import Journal

KEPT, DELETED = "conversations/kept", "conversations/deleted"


class Conversed:
    """A journal of one kept and one deleted conversation, and what there is of them."""

    def __init__(self, folder) -> None:
        self.journal = Journal(folder / "journal.jsonl")
        self.evidence = ConversationEvidence()
        self.create("create-1", KEPT)
        self.create("create-2", DELETED)
        self.send("message-1", KEPT, "answer-1")
        self.send("message-2", KEPT, "answer-2", tries=2)
        self.send("message-3", DELETED, "answer-3")
        self.do("repeat-1", "repeat", KEPT, message="message-1")
        self.journal.end("repeat-1", accepted=True, answer_id="answer-1", text="text", tries=1)
        self.do("rename-1", "rename", KEPT)
        self.journal.end("rename-1", renamed=True)
        self.do("delete-1", "delete", DELETED)
        self.journal.end("delete-1", deleted=True, tries=1)
        self.do("list-1", "list", "")
        self.journal.end("list-1", listed=True, titles=["create-1"])
        self.evidence.conversations = [{"name": KEPT, "title": "rename-1", "message_count": 4}]
        for place in (1, 2):
            self.store(place)
        self.evidence.listed = {"first": {KEPT: "rename-1"}, "second": {}}
        self.evidence.refused = {
            ("first", DELETED): UNKNOWN,
            ("second", KEPT): UNKNOWN,
            ("second", DELETED): UNKNOWN,
        }

    def do(self, operation: str, kind: str, conversation: str, **facts: str) -> None:
        self.journal.begin(
            operation, kind=kind, person="first", run=0, conversation=conversation, **facts
        )

    def create(self, operation: str, name: str) -> None:
        self.journal.begin(operation, kind="create", person="first", run=0)
        self.journal.end(operation, created=True, conversation=name)

    def send(self, request_id: str, name: str, answer_id: str, tries: int = 1) -> None:
        self.do(request_id, "message", name, question="Why?")
        self.journal.end(request_id, accepted=True, answer_id=answer_id, text="text", tries=tries)

    def store(self, place: int) -> None:
        """The rows and the message of an exchange."""
        request_id, answer_id = f"message-{place}", f"answer-{place}"
        question = f"Why? {request_id}"
        asked = {"name": KEPT, "number": 2 * place - 1, "answer_id": None}
        given = {"name": KEPT, "number": 2 * place, "question": None, "request_id": None}
        self.evidence.messages += [
            {**asked, "question": question, "request_id": request_id},
            {**given, "answer_id": answer_id},
        ]
        row = {"answer_id": answer_id, "question": question, "text": "text"}
        self.evidence.answers.append({**row, "redacted": False, "gone": False})
        shown = Message(role=MESSAGE_ROLE_ASSISTANT, answer_id=answer_id, text="text")
        self.evidence.read.setdefault(KEPT, []).append(shown)

    @property
    def found(self) -> list[str]:
        return conversation_violations(self.journal, self.evidence)


@pytest.fixture
def conversed(tmp_path) -> Conversed:
    return Conversed(tmp_path)


def test_a_clean_campaign_has_no_violation_and_is_counted(conversed):
    assert conversed.found == []
    assert count_conversations(conversed.journal) == (2, 3, 2)


def lose_conversation(one: Conversed) -> None:
    one.evidence.conversations = []
    one.evidence.messages = []
    one.evidence.answers = []


def lose_last_exchange(one: Conversed) -> None:
    del one.evidence.messages[2:]
    del one.evidence.answers[1]
    one.evidence.conversations[0]["message_count"] = 2


def store_another_answer(one: Conversed) -> None:
    one.evidence.messages[1]["answer_id"] = "answer-9"


def store_twice(one: Conversed) -> None:
    for row in deepcopy(one.evidence.messages[2:]):
        one.evidence.messages.append({**row, "number": row["number"] + 2, "request_id": None})
    one.evidence.conversations[0]["message_count"] = 6


def answer_a_repeat_anew(one: Conversed) -> None:
    one.journal.ended["repeat-1"]["answer_id"] = "answer-2"


def leave_a_gap(one: Conversed) -> None:
    for row in one.evidence.messages[2:]:
        row["number"] += 1


def lose_an_answer(one: Conversed) -> None:
    del one.evidence.answers[0]


def leave_a_question_alone(one: Conversed) -> None:
    del one.evidence.messages[3]
    one.evidence.conversations[0]["message_count"] = 3


def leave_messages_alone(one: Conversed) -> None:
    one.evidence.messages.append(
        {
            "name": "conversations/none",
            "number": 1,
            "question": "Why? message-1",
            "request_id": None,
            "answer_id": None,
        }
    )


def keep_deleted(one: Conversed) -> None:
    one.evidence.conversations.append({"name": DELETED, "title": "create-2", "message_count": 0})


def keep_deleted_text(one: Conversed) -> None:
    row = {"answer_id": "answer-3", "question": "Why? message-3", "text": "text"}
    one.evidence.answers.append({**row, "redacted": False, "gone": False})


def list_deleted(one: Conversed) -> None:
    one.evidence.listed["first"][DELETED] = "create-2"


def show_deleted(one: Conversed) -> None:
    one.evidence.refused["first", DELETED] = ""


def list_foreign(one: Conversed) -> None:
    one.evidence.listed["second"][KEPT] = "rename-1"


def list_foreign_meanwhile(one: Conversed) -> None:
    one.journal.begun["list-1"]["person"] = "second"


def show_foreign(one: Conversed) -> None:
    one.evidence.refused["second", KEPT] = ""


def unlist(one: Conversed) -> None:
    one.evidence.listed["first"] = {}


def change_stored_text(one: Conversed) -> None:
    one.evidence.answers[0]["text"] = one.evidence.read[KEPT][0].text = "other"


def change_shown_text(one: Conversed) -> None:
    one.evidence.read[KEPT][0].text = "other"


def withhold(one: Conversed) -> None:
    one.evidence.read[KEPT][0].withheld = True


def show_text_of_deleted_document(one: Conversed) -> None:
    one.evidence.answers[0]["gone"] = True


def store_text_of_deleted_document(one: Conversed) -> None:
    one.evidence.answers[0]["redacted"] = True
    one.evidence.read[KEPT][0].CopyFrom(Message(answer_id="answer-1", withheld=True))


def lose_a_rename(one: Conversed) -> None:
    one.evidence.conversations[0]["title"] = "create-1"


def create_a_phantom(one: Conversed) -> None:
    row = {"name": "conversations/phantom", "title": "Wells", "message_count": 0}
    one.evidence.conversations.append(row)


def ask_a_phantom(one: Conversed) -> None:
    one.evidence.messages[0]["question"] = "Who?"


def leave_an_answer(one: Conversed) -> None:
    row = {"answer_id": "answer-9", "question": "Who?", "text": "text"}
    one.evidence.answers.append({**row, "redacted": False, "gone": False})


def refuse_as_unknown(one: Conversed) -> None:
    one.do("message-9", "message", KEPT, question="Why?")
    one.journal.end("message-9", accepted=False, reason=UNKNOWN, tries=1)


DEFECTS = {
    lose_conversation: f"lost: {KEPT} was created",
    lose_last_exchange: "lost: message-2",
    store_another_answer: "lost: message-1 was answered by answer-1",
    store_twice: "doubled: 2 messages 'Why? message-2'",
    answer_a_repeat_anew: "doubled: message-1 was answered by",
    leave_a_gap: "incomplete: numbers",
    lose_an_answer: f"incomplete: {KEPT} lacks answer",
    leave_a_question_alone: f"incomplete: {KEPT} has a question without",
    leave_messages_alone: "incomplete: messages of",
    keep_deleted: "not deleted: a row of",
    keep_deleted_text: "not deleted: answer answer-3",
    list_deleted: f"not deleted: {DELETED} is in the list",
    show_deleted: f"not deleted: first reads {DELETED}",
    list_foreign: "shown: rename-1 of first to second",
    list_foreign_meanwhile: "shown: create-1 of first to second",
    show_foreign: f"shown: {KEPT} of first to second",
    unlist: f"lost: {KEPT} is not in the list",
    change_stored_text: "other text: answer answer-1 is stored",
    change_shown_text: "other text: answer answer-1 is shown",
    withhold: "lost: answer answer-1 is withheld",
    show_text_of_deleted_document: "not deleted: answer answer-1 is shown",
    store_text_of_deleted_document: "not deleted: text of answer answer-1",
    lose_a_rename: "lost: the title",
    create_a_phantom: "phantom: nobody created",
    ask_a_phantom: "phantom: nobody sent message 1",
    leave_an_answer: "phantom: no message refers to answer answer-9",
    refuse_as_unknown: f"lost: message-9 did not find {KEPT}",
}


@pytest.mark.parametrize(("spoil", "expected"), DEFECTS.items())
def test_each_defect_is_found(conversed, spoil: Callable[[Conversed], None], expected):
    spoil(conversed)
    assert any(line.startswith(expected) for line in conversed.found), conversed.found


def test_what_was_not_answered_may_have_happened_or_not(conversed):
    one = conversed
    one.journal.begin("create-9", kind="create", person="first", run=0)
    one.journal.end("create-9", created=False, reason="UNAVAILABLE")
    one.evidence.conversations.append(
        {"name": "conversations/c9", "title": "create-9", "message_count": 0}
    )
    one.do("rename-9", "rename", KEPT)
    one.journal.end("rename-9", renamed=False, reason="UNAVAILABLE")
    one.do("message-9", "message", KEPT, question="Why?")
    one.journal.end("message-9", accepted=False, reason="UNAVAILABLE", tries=3)
    assert one.found == []
    one.evidence.conversations[0]["title"] = "rename-9"
    assert one.found == []
    one.store(9)
    for number, row in enumerate(one.evidence.messages, 1):
        row["number"] = number
    one.evidence.conversations[0]["message_count"] = 6
    assert one.found == []
