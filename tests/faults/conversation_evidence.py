"""Reads conversations: as Postgres has them, and as the interface shows them to their people."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from aquifer.query.v1.conversation_service_pb2 import Message
from aquifer_cli import conversations
from aquifer_cli.client import Client
from aquifer_cli.errors import CommandError
from tests.faults.conversing import Person
from tests.faults.evidence import Row


@dataclass(slots=True)
class ConversationEvidence:
    """What there is of conversations after everything has healed.

    `answers` have `gone`: a version that the answer uses is deleted. `listed` has the titles of
    each person's conversations by name, `read` the messages of conversations by name. `refused` has
    the reasons by person and name for what is not in the person's list; empty: not refused.
    """

    conversations: list[Row] = field(default_factory=list)
    messages: list[Row] = field(default_factory=list)
    answers: list[Row] = field(default_factory=list)
    listed: dict[str, dict[str, str]] = field(default_factory=dict)
    read: dict[str, list[Message]] = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)


def read_rows(connection: psycopg.Connection[Any], evidence: ConversationEvidence) -> None:
    """Fills in what Postgres holds."""
    with connection.cursor(row_factory=dict_row) as cursor:

        def rows(query: str) -> list[Row]:
            return cursor.execute(query.encode()).fetchall()

        name = "'conversations/' || conversation_id AS name"
        evidence.conversations = rows(
            f"SELECT {name}, title, message_count FROM query.conversations"
        )
        evidence.messages = rows(
            f"SELECT {name}, number, question, request_id, answer_id::text FROM query.messages"
            " ORDER BY conversation_id, number"
        )
        evidence.answers = rows(
            "SELECT answer_id::text, question, text, redacted_at IS NOT NULL AS redacted, EXISTS"
            " (SELECT FROM query.answer_sources s LEFT JOIN query.documents d"
            " USING (tenant_id, document) WHERE s.tenant_id = a.tenant_id"
            " AND s.answer_id = a.answer_id"
            " AND s.version <= coalesce(d.tombstone_version, s.version)) AS gone"
            " FROM query.answers a"
        )


async def read_interface(
    people: Sequence[Person], names: set[str], evidence: ConversationEvidence
) -> None:
    """Fills in what each person is shown: its whole list, and what it can read of `names`."""
    for place, person in enumerate(people):
        client = person.clients[place % len(person.clients)]
        own = {one.name: one.title async for one in conversations.list_conversations(client)}
        evidence.listed[person.name] = own
        for name in names & own.keys():
            found = [one async for one in conversations.list_messages(client, name)]
            evidence.read[name] = found
        for name in names - own.keys():
            evidence.refused[person.name, name] = await _find_refusal(client, name)


async def _find_refusal(client: Client, name: str) -> str:
    try:
        await conversations.get(client, name)
    except CommandError as error:
        return error.reason
    return ""
