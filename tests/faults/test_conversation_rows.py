"""The checker of conversations finds defects that are created in real tables and then undone."""

import asyncio

import psycopg
import pytest

from tests.faults.conversation_checker import conversation_violations
from tests.faults.conversation_evidence import ConversationEvidence, read_rows

OWN = "(tenant_id, conversation_id) IN (SELECT tenant_id, conversation_id FROM query.messages"
DEFECTS = {
    "a lost exchange": (
        f"DELETE FROM query.messages WHERE {OWN} WHERE answer_id = %(answer)s)",
        "lost: ",
    ),
    "a lost answer": (
        (
            "ALTER TABLE query.messages DISABLE TRIGGER ALL; ALTER TABLE query.answers"
            " DISABLE TRIGGER ALL; DELETE FROM query.answers WHERE answer_id = %(answer)s"
        ),
        "incomplete: ",
    ),
    "an exchange that is stored twice": (
        (
            "INSERT INTO query.messages (tenant_id, conversation_id, number, question, answer_id)"
            " SELECT tenant_id, conversation_id, number + 1000, question, answer_id"
            f" FROM query.messages WHERE {OWN} WHERE answer_id = %(answer)s)"
        ),
        "doubled: ",
    ),
    "another text than was sent": (
        "UPDATE query.answers SET text = 'x', redacted_at = NULL WHERE answer_id = %(answer)s",
        "other text: ",
    ),
    "another title": (
        f"UPDATE query.conversations SET title = 'x' WHERE {OWN} WHERE answer_id = %(answer)s)",
        "phantom: ",
    ),
}


@pytest.fixture(scope="module")
def clean(campaign) -> ConversationEvidence:
    """The conversations after at least one run."""
    if not campaign.journal.kills():
        assert asyncio.run(campaign.run(0)).violations == []
    return asyncio.run(campaign.conversations.read(0, campaign.dsn))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_planted_in_the_tables_is_found(campaign, clean, defect):
    journal, (statement, expected) = campaign.conversations.journal, DEFECTS[defect]
    assert conversation_violations(journal, clean) == []
    whole = {row["answer_id"] for row in clean.answers if row["text"] and not row["gone"]}
    kept = {row["name"] for row in clean.conversations}
    answer = next(
        one["answer_id"]
        for one in journal.accepted().values()
        if one["kind"] == "message" and one["answer_id"] in whole and one["conversation"] in kept
    )
    with psycopg.connect(campaign.dsn) as connection:
        changed = psycopg.ClientCursor(connection)  # which can run several statements at once
        changed.execute(statement.encode(), {"answer": answer})
        assert changed.rowcount != 0
        evidence = ConversationEvidence(listed=clean.listed, read=clean.read, refused=clean.refused)
        read_rows(connection, evidence)
        connection.rollback()
    lines = conversation_violations(journal, evidence)
    assert any(line.startswith(expected) for line in lines), lines
