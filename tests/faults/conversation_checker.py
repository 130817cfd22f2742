"""Compares what people were promised of their conversations with what is stored and shown."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from tests.faults.conversation_evidence import ConversationEvidence
from tests.faults.evidence import Row
from tests.faults.journal import Facts, Journal

UNKNOWN = "CONVERSATION_UNKNOWN"


def conversation_violations(journal: Journal, evidence: ConversationEvidence) -> list[str]:
    """Every broken promise, one line each; an empty list is what we want."""
    return [
        *_lost(journal, evidence),
        *_messages_lost(journal, evidence),
        *_renames_lost(journal, evidence),
        *_repeats_differ(journal),
        *_doubled(evidence),
        *_incomplete(evidence),
        *_deleted_remains(journal, evidence),
        *_shown(journal, evidence),
        *_texts_differ(journal, evidence),
        *_phantoms(journal, evidence),
    ]


def created(journal: Journal) -> dict[str, Facts]:
    """Conversations whose creation was answered, by name."""
    return {
        str(facts["conversation"]): journal.begun[operation]
        for operation, facts in journal.ended.items()
        if facts.get("created")
    }


def _touched_by_delete(journal: Journal) -> set[str]:
    return {str(f["conversation"]) for f in journal.begun.values() if f["kind"] == "delete"}


def _deleted(journal: Journal) -> set[str]:
    return {
        str(journal.begun[operation]["conversation"])
        for operation, facts in journal.ended.items()
        if facts.get("deleted")
    }


def _messages(journal: Journal) -> dict[str, Facts]:
    """Messages whose finish was seen, by request id."""
    return {key: one for key, one in journal.accepted().items() if one["kind"] == "message"}


def _question(request_id: str, facts: Facts) -> str:
    return f"{facts['question']} {request_id}"


def _lost(journal: Journal, evidence: ConversationEvidence) -> Iterator[str]:
    """What was created stays, in the store and in the list, unless its delete was asked for."""
    stored = {row["name"] for row in evidence.conversations}
    touched = _touched_by_delete(journal)
    for name, facts in created(journal).items():
        if name in touched:
            continue
        if name not in stored:
            yield f"lost: {name} was created"
        if name not in evidence.listed.get(facts["person"], {}):
            yield f"lost: {name} is not in the list of {facts['person']}"
    for operation, facts in journal.ended.items():
        begun = journal.begun[operation]
        refused = facts.get("reason") == UNKNOWN and not facts.get("deleted")
        # A first delete that finds nothing, and anything else that nobody deleted.
        if refused and (begun["kind"] == "delete" or begun["conversation"] not in touched):
            yield f"lost: {operation} did not find {begun['conversation']}"


def _messages_lost(journal: Journal, evidence: ConversationEvidence) -> Iterator[str]:
    """A finished answer follows its question, and is the one that the stream announced."""
    touched = _touched_by_delete(journal)
    answer_of = {
        (asked["name"], asked["request_id"]): given["answer_id"]
        for asked, given in pairwise(evidence.messages)
        if asked["name"] == given["name"] and asked["question"] is not None
    }
    for request_id, facts in _messages(journal).items():
        if facts["conversation"] in touched:
            continue
        found = answer_of.get((facts["conversation"], request_id))
        if found is None:
            yield f"lost: {request_id} of {facts['conversation']} was answered"
        elif found != facts["answer_id"]:
            yield f"lost: {request_id} was answered by {facts['answer_id']}, stored is {found}"


def _renames_lost(journal: Journal, evidence: ConversationEvidence) -> Iterator[str]:
    """The title is the last acknowledged one, or one whose call was not answered."""
    lawful: dict[str, set[str]] = {}
    for operation, facts in journal.ended.items():
        if facts.get("created"):
            lawful[str(facts["conversation"])] = {operation}
    for operation, facts in journal.begun.items():
        if facts["kind"] == "rename":
            name, answered = facts["conversation"], _answered(journal, operation)
            kept = (
                {one for one in lawful[name] if not _answered(journal, one)}
                if answered
                else lawful[name]
            )
            lawful[name] = {*kept, operation}
    for row in evidence.conversations:
        wanted = lawful.get(row["name"])
        if wanted and row["title"] not in wanted and row["title"] in journal.begun:
            yield f"lost: the title of {row['name']} is {row['title']}, not one of {sorted(wanted)}"


def _answered(journal: Journal, operation: str) -> bool:
    facts = journal.ended.get(operation, {})
    return bool(facts.get("created") or facts.get("renamed"))


def _repeats_differ(journal: Journal) -> Iterator[str]:
    """Whoever repeats a message gets the answer that it has."""
    answers: dict[str, set[str]] = defaultdict(set)
    for operation, facts in journal.accepted().items():
        answers[facts.get("message", operation)].add(facts["answer_id"])
    for request_id, found in answers.items():
        if len(found) > 1:
            yield f"doubled: {request_id} was answered by {', '.join(sorted(found))}"


def _doubled(evidence: ConversationEvidence) -> Iterator[str]:
    counts = Counter(row["question"] for row in evidence.messages if row["question"])
    for question, count in counts.items():
        if count > 1:
            yield f"doubled: {count} messages {question!r}"
    referred = Counter(row["answer_id"] for row in evidence.messages if row["answer_id"])
    for answer_id, count in referred.items():
        if count > 1:
            yield f"doubled: {count} messages refer to answer {answer_id}"


def _incomplete(evidence: ConversationEvidence) -> Iterator[str]:
    """Numbers count from 1, questions and answers alternate, and each answer is there."""
    own: dict[str, list[Row]] = defaultdict(list)
    for row in evidence.messages:
        own[row["name"]].append(row)
    answers = {row["answer_id"] for row in evidence.answers}
    for one in evidence.conversations:
        rows = own.pop(one["name"], [])
        if [row["number"] for row in rows] != list(range(1, one["message_count"] + 1)):
            yield f"incomplete: numbers of {one['name']} are not 1..{one['message_count']}"
        kinds = [row["answer_id"] is not None for row in rows]
        if kinds != [False, True] * (len(rows) // 2):
            yield f"incomplete: {one['name']} has a question without its answer"
        for row in rows:
            if row["answer_id"] is not None and row["answer_id"] not in answers:
                yield f"incomplete: {one['name']} lacks answer {row['answer_id']}"
    for name in own:
        yield f"incomplete: messages of {name}, which is not there"


def _deleted_remains(journal: Journal, evidence: ConversationEvidence) -> Iterator[str]:
    """After an acknowledged delete nothing has a word of the conversation, and nobody reads it."""
    deleted = _deleted(journal)
    for kind, rows in (("row", evidence.conversations), ("message", evidence.messages)):
        for row in rows:
            if row["name"] in deleted:
                yield f"not deleted: a {kind} of {row['name']}"
    asked = {
        _question(operation, facts): facts["conversation"]
        for operation, facts in journal.begun.items()
        if facts["kind"] == "message"
    }
    for row in evidence.answers:
        if asked.get(row["question"]) in deleted:
            yield f"not deleted: answer {row['answer_id']} of {asked[row['question']]}"
    for person, listed in evidence.listed.items():
        for name in listed.keys() & deleted:
            yield f"not deleted: {name} is in the list of {person}"
    for (person, name), reason in evidence.refused.items():
        if name in deleted and reason != UNKNOWN:
            yield f"not deleted: {person} reads {name} ({reason or 'found'})"


def _shown(journal: Journal, evidence: ConversationEvidence) -> Iterator[str]:
    """Nobody is shown a conversation of somebody else, whatever was down."""
    listed = [
        (begun["person"], title)
        for operation, begun in journal.begun.items()
        for title in journal.ended.get(operation, {}).get("titles", ())
    ]
    listed += [(name, title) for name, own in evidence.listed.items() for title in own.values()]
    for person, title in listed:
        owner = journal.begun.get(title, {}).get("person", person)
        if owner != person:
            yield f"shown: {title} of {owner} to {person}"
    known = created(journal)
    for (person, name), reason in evidence.refused.items():
        owner = known[name]["person"]
        if owner != person and reason != UNKNOWN:
            yield f"shown: {name} of {owner} to {person} ({reason or 'found'})"


def _texts_differ(journal: Journal, evidence: ConversationEvidence) -> Iterator[str]:
    """An answer that may be read has the text that the stream sent; another is withheld."""
    answers = {row["answer_id"]: row for row in evidence.answers}
    sent = {facts["answer_id"]: facts["text"] for facts in _messages(journal).values()}
    shown = {one.answer_id: one for found in evidence.read.values() for one in found}
    for answer_id, row in answers.items():
        hidden = row["redacted"] or row["gone"]
        if hidden and row["text"]:
            yield f"not deleted: text of answer {answer_id}, whose document is deleted"
        if not hidden and row["text"] != sent.get(answer_id, row["text"]):
            yield f"other text: answer {answer_id} is stored with another text than was sent"
        message = shown.get(answer_id)
        if message is None:
            continue
        if message.withheld and not hidden:
            yield f"lost: answer {answer_id} is withheld, though its documents are there"
        elif hidden and not (message.withheld and not message.text):
            yield f"not deleted: answer {answer_id} is shown, though a document of it is deleted"
        elif not hidden and message.text != row["text"]:
            yield f"other text: answer {answer_id} is shown with another text than is stored"


def _phantoms(journal: Journal, evidence: ConversationEvidence) -> Iterator[str]:
    """Nothing is there that nobody sent, and no answer that no message refers to."""
    asked = {
        _question(operation, facts)
        for operation, facts in journal.begun.items()
        if facts["kind"] == "message"
    }
    for row in evidence.conversations:
        if row["title"] not in journal.begun:
            yield f"phantom: nobody created {row['name']}, {row['title']!r}"
    for row in evidence.messages:
        if row["question"] is not None and row["question"] not in asked:
            yield f"phantom: nobody sent message {row['number']} of {row['name']}"
    referred = {row["answer_id"] for row in evidence.messages}
    for row in evidence.answers:
        if row["answer_id"] not in referred:
            yield f"phantom: no message refers to answer {row['answer_id']}"


def count_conversations(journal: Journal) -> tuple[int, int, int]:
    """Created conversations, answered messages, and repeats that were answered."""
    messages = _messages(journal)
    repeated = sum(one["tries"] > 1 for one in messages.values())
    repeated += len(journal.accepted()) - len(messages)
    return len(created(journal)), len(messages), repeated
