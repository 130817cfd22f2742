"""The SQL of conversations. An answer is joined only while its text may be read."""

from typing import Final

_OWN: Final = """
tenant_id = %(tenant)s AND conversation_id = %(conversation_id)s AND principal = %(principal)s
"""

_COLUMNS: Final = """
conversation_id, title, model, collection, collections, documents, filter, max_output_tokens,
prompt, message_count, created_at, updated_at, active_at
"""

# The answer of a message, unless a document that it uses is deleted or not for the reader.
_READABLE: Final = """
LEFT JOIN LATERAL (
    SELECT known.answer_id AS readable_id, known.text, known.finish_reason, known.citations
    FROM answers AS known
    WHERE known.tenant_id = %(tenant)s AND known.answer_id = message.answer_id
        AND known.redacted_at IS NULL AND NOT EXISTS (
            SELECT FROM answer_sources AS source
            WHERE source.tenant_id = %(tenant)s AND source.answer_id = known.answer_id
                AND NOT EXISTS (
                    SELECT FROM documents AS seen
                    WHERE seen.tenant_id = %(tenant)s AND seen.document = source.document
                        AND seen.tombstone_version < source.version
                        AND (%(held)s::text[] IS NULL OR seen.labels = '{}'
                             OR seen.labels && %(held)s)))
) AS answer ON true
"""

CREATE: Final = f"""
INSERT INTO conversations (tenant_id, conversation_id, principal, title, model, collection,
                           collections, documents, filter, max_output_tokens, prompt)
SELECT %(tenant)s, %(conversation_id)s, %(principal)s, %(title)s, %(model)s, %(collection)s,
       %(collections)s, %(documents)s, %(filter)s, %(max_output_tokens)s, %(prompt)s
WHERE (SELECT count(*) FROM (
    SELECT FROM conversations WHERE tenant_id = %(tenant)s AND principal = %(principal)s
    LIMIT %(most)s) AS known) < %(most)s
RETURNING {_COLUMNS}
""".encode()  # noqa: S608  (constants of this module)

FIND: Final = f"SELECT {_COLUMNS} FROM conversations WHERE {_OWN}".encode()  # noqa: S608
LOCK: Final = FIND + b" FOR UPDATE"

UPDATE: Final = f"""
UPDATE conversations
SET title = %(title)s, model = %(model)s, collection = %(collection)s,
    collections = %(collections)s, documents = %(documents)s, filter = %(filter)s,
    max_output_tokens = %(max_output_tokens)s, prompt = %(prompt)s,
    updated_at = clock_timestamp()
WHERE {_OWN}
RETURNING {_COLUMNS}
""".encode()  # noqa: S608  (constants of this module)

DELETE_ANSWERS: Final = b"""
DELETE FROM answers AS known USING messages AS message
WHERE message.tenant_id = %(tenant)s AND message.conversation_id = %(conversation_id)s
    AND known.tenant_id = %(tenant)s AND known.answer_id = message.answer_id
"""

DELETE: Final = f"DELETE FROM conversations WHERE {_OWN}".encode()  # noqa: S608

# One statement for a page with its last messages: an index meets each limit, on every page.
LIST: Final = f"""
SELECT listed.*, last.number, last.question, last.answer_id, last.stored_at, last.text,
       last.finish_reason
FROM (
    SELECT {_COLUMNS} FROM conversations
    WHERE tenant_id = %(tenant)s AND principal = %(principal)s
        AND (active_at, conversation_id) < (%(time)s::timestamptz, %(conversation_id)s)
    ORDER BY active_at DESC, conversation_id DESC LIMIT %(limit)s
) AS listed
LEFT JOIN LATERAL (
    SELECT message.number, left(message.question, %(chars)s) AS question, message.answer_id,
           message.created_at AS stored_at, left(answer.text, %(chars)s) AS text,
           answer.finish_reason
    FROM (
        SELECT * FROM messages AS one
        WHERE one.tenant_id = %(tenant)s AND one.conversation_id = listed.conversation_id
        ORDER BY one.number DESC LIMIT %(messages)s
    ) AS message {_READABLE}
) AS last ON true
ORDER BY listed.active_at DESC, listed.conversation_id DESC, last.number
""".encode()  # noqa: S608  (constants of this module)

LIST_MESSAGES: Final = f"""
SELECT message.number, message.question, message.answer_id, message.created_at AS stored_at,
       answer.text, answer.finish_reason,
       CASE WHEN %(citations)s THEN answer.citations END AS citations
FROM messages AS message {_READABLE}
WHERE message.tenant_id = %(tenant)s AND message.conversation_id = %(conversation_id)s
    AND message.number > %(after)s
ORDER BY message.number LIMIT %(limit)s
""".encode()  # noqa: S608  (constants of this module)

# Questions with their answers; the answer of a question is the next message.
LAST_EXCHANGES: Final = f"""
SELECT asked.question, answer.text,
       ARRAY(SELECT source.document FROM answer_sources AS source
             WHERE source.tenant_id = %(tenant)s AND source.answer_id = answer.readable_id
             ORDER BY source.document, source.version) AS documents,
       ARRAY(SELECT source.version FROM answer_sources AS source
             WHERE source.tenant_id = %(tenant)s AND source.answer_id = answer.readable_id
             ORDER BY source.document, source.version) AS versions
FROM (
    SELECT * FROM messages AS one
    WHERE one.tenant_id = %(tenant)s AND one.conversation_id = %(conversation_id)s
        AND one.answer_id IS NOT NULL
    ORDER BY one.number DESC LIMIT %(exchanges)s
) AS message
JOIN messages AS asked ON asked.tenant_id = message.tenant_id
    AND asked.conversation_id = message.conversation_id AND asked.number = message.number - 1
{_READABLE}
ORDER BY message.number
""".encode()  # noqa: S608  (constants of this module)

FIND_REPEATED: Final = b"""
SELECT asked.question, given.answer_id
FROM messages AS asked
JOIN messages AS given ON given.tenant_id = asked.tenant_id
    AND given.conversation_id = asked.conversation_id AND given.number = asked.number + 1
WHERE asked.tenant_id = %(tenant)s AND asked.conversation_id = %(conversation_id)s
    AND asked.request_id = %(request_id)s
"""

ADD_EXCHANGE: Final = f"""
WITH added AS (
    INSERT INTO messages (tenant_id, conversation_id, number, question, request_id, answer_id)
    VALUES (%(tenant)s, %(conversation_id)s, %(last)s::integer + 1, %(question)s,
            NULLIF(%(request_id)s, ''), NULL),
           (%(tenant)s, %(conversation_id)s, %(last)s::integer + 2, NULL, NULL, %(answer_id)s)
)
UPDATE conversations
SET message_count = %(last)s::integer + 2, active_at = clock_timestamp(),
    title = CASE WHEN title = '' THEN %(title)s ELSE title END
WHERE {_OWN}
""".encode()  # noqa: S608  (constants of this module)
