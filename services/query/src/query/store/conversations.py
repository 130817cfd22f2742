"""Conversations and their messages, whose answers are in the table `answers` alone."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final
from uuid import UUID, uuid4

from typing_extensions import override

from chassis.base.errors import ConflictError, FailedPreconditionError
from chassis.base.labels import Held
from chassis.base.postgres import Transaction
from chassis.events.work import GuardedTransactions
from query.answer import Answer, Exchange, FinishReason, Sent
from query.conversation import (
    CONVERSATIONS_MAX,
    MESSAGES_MAX,
    Conversation,
    Message,
    Owner,
    Role,
    Settings,
    make_title,
    unknown_conversation_error,
)
from query.domain import Version
from query.store import conversation_statements as statements
from query.store.citations import read_citation
from query.usecases.conversations import Activity, Conversations, Opened

# Of the text of a message in a list of conversations.
LAST_MESSAGE_CHARS: Final = 1_000


class PostgresConversations(Conversations):
    """See `Conversations`."""

    def __init__(self, transactions: GuardedTransactions) -> None:
        self._transactions = transactions

    @override
    async def create(self, owner: Owner, settings: Settings) -> Conversation:
        values = {
            **_names(owner, uuid4()),
            **_settings_values(settings),
            "most": CONVERSATIONS_MAX,
        }
        async with self._transactions.begin(owner.tenant) as work:
            row = await (await work.tx.execute(statements.CREATE, values)).fetchone()
        if row is None:
            raise FailedPreconditionError(
                "CONVERSATIONS_FULL",
                f"the principal has {CONVERSATIONS_MAX} conversations; delete some",
                max_conversations=CONVERSATIONS_MAX,
            )
        return _conversation(row)

    @override
    async def get(self, owner: Owner, conversation_id: UUID) -> Conversation:
        async with self._transactions.database.transaction(owner.tenant) as tx:
            return await _find(tx, statements.FIND, owner, conversation_id)

    @override
    async def list_page(
        self, owner: Owner, held: Held, after: Activity | None, limit: int, messages: int
    ) -> Sequence[Conversation]:
        values = {
            "tenant": owner.tenant,
            "principal": owner.principal,
            "held": None if held is None else sorted(held),
            # As an infinite time, which the driver does not have, before the first page.
            "time": after.time.isoformat() if after else "infinity",
            "conversation_id": after.conversation_id if after else UUID(int=0),
            "limit": limit,
            "messages": messages,
            "chars": LAST_MESSAGE_CHARS,
        }
        async with self._transactions.database.transaction(owner.tenant) as tx:
            rows = await (await tx.execute(statements.LIST, values, binary=True)).fetchall()
        return [
            _conversation(own[0], [_message(row) for row in own if row["number"]])
            for own in (list(one) for _, one in groupby(rows, lambda row: row["conversation_id"]))
        ]

    @override
    async def update(
        self, owner: Owner, conversation_id: UUID, given: Settings, paths: Sequence[str]
    ) -> Conversation:
        async with self._transactions.begin(owner.tenant) as work:
            found = await _find(work.tx, statements.LOCK, owner, conversation_id)
            changed = found.settings.update(given, paths)
            if changed == found.settings:
                return found
            values = {**_names(owner, conversation_id), **_settings_values(changed)}
            row = await (await work.tx.execute(statements.UPDATE, values)).fetchone()
            assert row is not None, "it is locked"
            return _conversation(row)

    @override
    async def delete(self, owner: Owner, conversation_id: UUID) -> None:
        names = _names(owner, conversation_id)
        async with self._transactions.begin(owner.tenant) as work:
            await _find(work.tx, statements.LOCK, owner, conversation_id)
            await work.tx.execute(statements.DELETE_ANSWERS, names)
            await work.tx.execute(statements.DELETE, names)

    @override
    async def list_messages(
        self,
        owner: Owner,
        conversation_id: UUID,
        held: Held,
        after: int,
        limit: int,
        *,
        citations: bool = False,
    ) -> Sequence[Message]:
        values = {
            "citations": citations,
            **_names(owner, conversation_id),
            "held": None if held is None else sorted(held),
            "after": after,
            "limit": limit,
        }
        async with self._transactions.database.transaction(owner.tenant) as tx:
            await _find(tx, statements.FIND, owner, conversation_id)
            rows = await (await tx.execute(statements.LIST_MESSAGES, values)).fetchall()
        return [_message(row) for row in rows]

    @override
    async def open(
        self, owner: Owner, conversation_id: UUID, held: Held, request_id: str, exchanges: int
    ) -> Opened:
        values = {
            **_names(owner, conversation_id),
            "held": None if held is None else sorted(held),
            "exchanges": exchanges,
            "request_id": request_id,
        }
        async with self._transactions.database.transaction(owner.tenant) as tx:
            found = await _find(tx, statements.FIND, owner, conversation_id)
            repeated = await _find_repeated(tx, values) if request_id else None
            if repeated is None:
                _check_room(found.message_count)
            rows = await (await tx.execute(statements.LAST_EXCHANGES, values)).fetchall()
        return Opened(
            conversation=found,
            questions=[row["question"] for row in rows],
            exchanges=[_exchange(row) for row in rows if row["text"]],
            repeated=repeated,
        )


async def add_exchange(tx: Transaction, answer: Answer, sent: Sent) -> None:
    """Adds a question and its answer, which is stored, to a conversation.

    Raises:
        NotFoundError: CONVERSATION_UNKNOWN, it was deleted meanwhile.
        FailedPreconditionError: CONVERSATION_FULL.
        ConflictError: REQUEST_OVERTAKEN, the request id was stored meanwhile.
    """
    owner = Owner(tenant=answer.tenant, principal=answer.principal)
    values = {
        **_names(owner, sent.conversation_id),
        "question": answer.question,
        "request_id": sent.request_id,
        "answer_id": answer.answer_id,
        "title": make_title(answer.question),
    }
    found = await _find(tx, statements.LOCK, owner, sent.conversation_id)
    _check_room(found.message_count)
    if sent.request_id and await _find_repeated(tx, values):
        raise ConflictError(
            "REQUEST_OVERTAKEN",
            "another call with this request_id was faster; repeat the call for its answer",
        )
    await tx.execute(statements.ADD_EXCHANGE, {**values, "last": found.message_count})


def _check_room(message_count: int) -> None:
    if message_count + 2 > MESSAGES_MAX:
        raise FailedPreconditionError(
            "CONVERSATION_FULL",
            f"the conversation has {MESSAGES_MAX} messages; start another",
            max_messages=MESSAGES_MAX,
        )


async def _find(
    tx: Transaction, statement: bytes, owner: Owner, conversation_id: UUID
) -> Conversation:
    row = await (await tx.execute(statement, _names(owner, conversation_id))).fetchone()
    if row is None:
        raise unknown_conversation_error()
    return _conversation(row)


async def _find_repeated(tx: Transaction, values: Mapping[str, Any]) -> tuple[str, UUID] | None:
    row = await (await tx.execute(statements.FIND_REPEATED, values)).fetchone()
    return (row["question"], row["answer_id"]) if row else None


def _names(owner: Owner, conversation_id: UUID) -> dict[str, Any]:
    return {
        "tenant": owner.tenant,
        "principal": owner.principal,
        "conversation_id": conversation_id,
    }


def _settings_values(settings: Settings) -> dict[str, Any]:
    return {
        "title": settings.title,
        "model": settings.model,
        "collection": settings.collection,
        "collections": list(settings.collections),
        "documents": list(settings.documents),
        "filter": settings.filter,
        "max_output_tokens": settings.max_output_tokens,
        "prompt": settings.prompt,
    }


def _conversation(row: Mapping[str, Any], last_messages: Sequence[Message] = ()) -> Conversation:
    return Conversation(
        conversation_id=row["conversation_id"],
        settings=Settings(
            title=row["title"],
            model=row["model"],
            collection=row["collection"],
            collections=tuple(row["collections"]),
            documents=tuple(row["documents"]),
            filter=row["filter"],
            max_output_tokens=row["max_output_tokens"],
            prompt=row["prompt"],
        ),
        message_count=row["message_count"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        active_at=row["active_at"],
        last_messages=last_messages,
    )


def _message(row: Mapping[str, Any]) -> Message:
    if row["answer_id"] is None:
        return Message(
            number=row["number"],
            role=Role.USER,
            text=row["question"],
            created_at=row["stored_at"],
        )
    withheld = row["finish_reason"] is None
    return Message(
        number=row["number"],
        role=Role.ASSISTANT,
        text="" if withheld else row["text"],
        created_at=row["stored_at"],
        answer_id=row["answer_id"],
        reason=None if withheld else FinishReason(row["finish_reason"]),
        withheld=withheld,
        citations=[read_citation(one) for one in row.get("citations") or ()],
    )


def _exchange(row: Mapping[str, Any]) -> Exchange:
    pairs = zip(row["documents"], row["versions"], strict=True)
    return Exchange(
        question=row["question"],
        answer=row["text"],
        sources=tuple(Version(document=document, number=number) for document, number in pairs),
    )
