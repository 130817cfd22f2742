"""Stored answers and the versions they use."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb
from typing_extensions import override

from aquifer.query.v1.passage_events_pb2 import AnswerProduced
from chassis.base.labels import Held
from chassis.base.postgres import Transaction
from chassis.events.work import GuardedTransactions
from query.answer import Answer, Feedback, Finish, FinishReason, Rating, Sent, Settings
from query.domain import Version
from query.guardrail import Outcome, Stage, Verdict
from query.store.citations import read_citation, write_citation
from query.store.conversations import add_exchange
from query.usecases.answers import Answers

# A deletion either waits for this transaction and then finds the answer, or is visible to it. A
# document whose labels have just changed may be invisible here; it counts as deleted.
_TOMBSTONES: Final = """
SELECT document, tombstone_version FROM documents
WHERE tenant_id = %(tenant)s AND document = ANY(%(documents)s)
ORDER BY document FOR SHARE
"""

_KEEP: Final = """
INSERT INTO answers (tenant_id, answer_id, principal, question, text, citations, finish_reason,
                     input_tokens, output_tokens, model, generative, confidence, degraded,
                     trace_id, prompt, verdicts, settings, redacted_at)
VALUES (%(tenant)s, %(answer_id)s, %(principal)s, %(question)s, %(text)s, %(citations)s,
        %(finish_reason)s, %(input_tokens)s, %(output_tokens)s, %(model)s, %(generative)s,
        %(confidence)s, %(degraded)s, %(trace_id)s, %(prompt)s, %(verdicts)s, %(settings)s,
        CASE WHEN %(redacted)s THEN now() END)
"""

_KEEP_SOURCES: Final = """
INSERT INTO answer_sources (tenant_id, answer_id, document, version)
SELECT %(tenant)s, %(answer_id)s, given.*
FROM unnest(%(documents)s::text[], %(versions)s::bigint[]) AS given
"""

COLUMNS: Final = """
answer_id, principal, question, text, citations, finish_reason, input_tokens, output_tokens, model,
generative, confidence, degraded, trace_id, prompt, verdicts, settings, feedback, feedback_reason,
feedback_at
"""

_FIND: Final = f"""
SELECT {COLUMNS}
FROM answers WHERE tenant_id = %(tenant)s AND answer_id = %(answer_id)s
    AND NOT EXISTS (
        SELECT FROM answer_sources AS source
        WHERE source.tenant_id = %(tenant)s AND source.answer_id = %(answer_id)s AND NOT EXISTS (
            SELECT FROM documents AS seen
            WHERE seen.tenant_id = %(tenant)s AND seen.document = source.document
                AND (%(held)s::text[] IS NULL OR seen.labels = '{{}}' OR seen.labels && %(held)s)))
""".encode()  # noqa: S608  (constants of this module)

_RATE: Final = """
UPDATE answers
SET feedback = %(rating)s, feedback_at = clock_timestamp(),
    feedback_reason = CASE WHEN redacted_at IS NULL THEN %(reason)s ELSE '' END
WHERE tenant_id = %(tenant)s AND answer_id = %(answer_id)s
"""

_FIND_DELETED: Final = """
SELECT source.document, source.version
FROM answer_sources AS source
JOIN documents AS known
  ON known.tenant_id = source.tenant_id AND known.document = source.document
 AND known.tombstone_version >= source.version
WHERE source.tenant_id = %(tenant)s AND source.answer_id = %(answer_id)s
"""


class PostgresAnswers(Answers):
    """See `Answers`."""

    def __init__(self, transactions: GuardedTransactions) -> None:
        self._transactions = transactions

    @override
    async def keep(
        self,
        answer: Answer,
        sources: Sequence[Version],
        event: AnswerProduced,
        sent: Sent | None = None,
    ) -> None:
        async with self._transactions.begin(answer.tenant) as work:
            tx = work.tx
            deleted = await _find_deleted(tx, answer.tenant, sources)
            await tx.execute(_KEEP, _values(answer.redact(deleted), redacted=bool(deleted)))
            await tx.execute(
                _KEEP_SOURCES,
                {
                    "tenant": answer.tenant,
                    "answer_id": answer.answer_id,
                    "documents": [source.document for source in sources],
                    "versions": [source.number for source in sources],
                },
            )
            if sent:
                await add_exchange(tx, answer, sent)
            work.emit(event, key=(answer.tenant, "answer", answer.answer_id))

    @override
    async def rate(
        self, tenant: str, principal: str, answer_id: UUID, held: Held, feedback: Feedback
    ) -> bool:
        names = _names(tenant, answer_id, held)
        values = {**names, "rating": feedback.rating.value, "reason": feedback.reason}
        async with self._transactions.begin(tenant) as work:
            row = await (await work.tx.execute(_FIND, names)).fetchone()
            if row is None or row["principal"] != principal:
                return False
            await work.tx.execute(_RATE, values)
        return True

    @override
    async def find(self, tenant: str, answer_id: UUID, held: Held) -> Answer | None:
        names = _names(tenant, answer_id, held)
        async with self._transactions.database.transaction(tenant) as tx:
            row = await (await tx.execute(_FIND, names)).fetchone()
            if row is None:
                return None
            # Hidden at once, even if the purge has not emptied the row yet.
            found = await (await tx.execute(_FIND_DELETED, names)).fetchall()
        deleted = {Version(document=one["document"], number=one["version"]) for one in found}
        return read_answer(tenant, row).redact(deleted)


def _names(tenant: str, answer_id: UUID, held: Held) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "answer_id": answer_id,
        "held": None if held is None else sorted(held),
    }


async def _find_deleted(tx: Transaction, tenant: str, sources: Sequence[Version]) -> set[Version]:
    documents = [source.document for source in sources]
    cursor = await tx.execute(_TOMBSTONES, {"tenant": tenant, "documents": documents})
    tombstones = {row["document"]: row["tombstone_version"] for row in await cursor.fetchall()}
    return {
        source
        for source in sources
        if source.document not in tombstones or source.number <= tombstones[source.document]
    }


def _values(answer: Answer, *, redacted: bool) -> dict[str, Any]:
    finish = answer.finish
    return {
        "tenant": answer.tenant,
        "answer_id": answer.answer_id,
        "principal": answer.principal,
        "question": answer.question,
        "text": answer.text,
        "citations": Jsonb([write_citation(citation) for citation in answer.citations]),
        "finish_reason": finish.reason.value,
        "input_tokens": finish.input_tokens,
        "output_tokens": finish.output_tokens,
        "model": finish.model,
        "generative": finish.generative,
        "confidence": finish.confidence,
        "degraded": finish.degraded,
        "trace_id": answer.trace_id,
        "prompt": finish.prompt,
        "verdicts": Jsonb([_verdict_json(verdict) for verdict in finish.verdicts]),
        "settings": Jsonb(_write_settings(answer.settings)),
        "redacted": redacted,
    }


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "check": verdict.check,
        "stage": verdict.stage.value,
        "outcome": verdict.outcome.value,
        "count": verdict.count,
    }


def _verdict(stored: Mapping[str, Any]) -> Verdict:
    return Verdict(
        check=stored["check"],
        stage=Stage(stored["stage"]),
        outcome=Outcome(stored["outcome"]),
        count=stored["count"],
    )


def read_answer(tenant: str, row: Mapping[str, Any]) -> Answer:
    """An answer from its `COLUMNS`."""
    return Answer(
        answer_id=row["answer_id"],
        tenant=tenant,
        principal=row["principal"],
        question=row["question"],
        text=row["text"],
        citations=[read_citation(stored) for stored in row["citations"]],
        finish=Finish(
            reason=FinishReason(row["finish_reason"]),
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            model=row["model"],
            generative=row["generative"],
            confidence=row["confidence"],
            degraded=row["degraded"],
            prompt=row["prompt"],
            verdicts=tuple(_verdict(stored) for stored in row["verdicts"]),
        ),
        trace_id=row["trace_id"],
        settings=_read_settings(row["settings"]),
        feedback=_feedback(row) if row["feedback"] else None,
    )


def _write_settings(settings: Settings) -> dict[str, Any]:
    as_of = settings.as_of.isoformat() if settings.as_of else None
    return {**asdict(settings), "as_of": as_of}


def _read_settings(stored: Mapping[str, Any]) -> Settings:
    """What is known here of them: a newer release may have stored more."""
    known = {one.name for one in fields(Settings)}
    settings = Settings(**{name: value for name, value in stored.items() if name in known})
    as_of = stored.get("as_of")
    return replace(settings, as_of=datetime.fromisoformat(as_of) if as_of else None)


def _feedback(row: Mapping[str, Any]) -> Feedback:
    return Feedback(
        rating=Rating(row["feedback"]), reason=row["feedback_reason"], given_at=row["feedback_at"]
    )
