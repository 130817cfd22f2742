"""SQL statements for documents, versions and chunks; every statement is set-based."""

from typing import Final

from ingest.store import rows
from ingest.store.uploads import SETTLE

# A statement of its own before `CLAIM`, which then sees every deletion that was committed before.
SHARE_COLLECTIONS: Final = """
SELECT pg_advisory_xact_lock_shared(hashtextextended(%(tenant)s || '/' || id, 0))
FROM (SELECT DISTINCT split_part(name, '/', 2) AS id FROM unnest(%(names)b::text[]) AS name
      ORDER BY id) AS collections
"""

CLAIM: Final = f"""
INSERT INTO documents AS d (tenant_id, name)
SELECT %(tenant)s, name FROM unnest(%(names)b::text[]) AS name
ON CONFLICT (tenant_id, name) DO UPDATE SET name = EXCLUDED.name
RETURNING {rows.ENTRY},
    (SELECT suspended FROM tenants WHERE tenant_id = %(tenant)s) AS suspended,
    (SELECT max_chars > 0 OR steps <> '{{}}' FROM collections
     WHERE tenant_id = %(tenant)s AND collection_id = split_part(d.name, '/', 2)) AS cuts_apart,
    (SELECT access_labels FROM collections
     WHERE tenant_id = %(tenant)s AND collection_id = split_part(d.name, '/', 2)) AS inherited,
    {rows.CUT} AS cut, (SELECT max(number) FROM collection_deletions
     WHERE tenant_id = %(tenant)s AND collection_id = split_part(d.name, '/', 2)) AS deletion
"""  # noqa: S608

RELEASE: Final = """
DELETE FROM documents
WHERE tenant_id = %(tenant)s AND name = ANY(%(names)s) AND latest_version = 0
    AND upload_order = 0
"""

ENTRY: Final = f"""
SELECT {rows.ENTRY} FROM documents d
WHERE d.tenant_id = %(tenant)s AND d.name = %(name)s AND d.latest_version > 0
"""  # noqa: S608

NEWEST: Final = f"""
SELECT {rows.ENTRY}, {rows.VERSION} FROM documents d
JOIN versions v ON v.tenant_id = d.tenant_id AND v.document = d.name
    AND v.version = d.latest_version
WHERE d.tenant_id = %(tenant)s AND d.name = %(name)s
"""  # noqa: S608

# In this statement and the two after `VERSION`, each LIMIT 1 is on a unique key, so it changes no
# result. It makes the planner look rows up by their key: without statistics of a tenant, it joins
# all versions of the tenant instead.
NEWEST_OF: Final = f"""
SELECT {rows.ENTRY}, {rows.VERSION} FROM unnest(%(names)b::text[]) AS wanted(name)
CROSS JOIN LATERAL (
    SELECT * FROM documents WHERE tenant_id = %(tenant)s AND name = wanted.name LIMIT 1
) AS d
CROSS JOIN LATERAL (
    SELECT * FROM versions
    WHERE tenant_id = %(tenant)s AND document = wanted.name AND version = d.latest_version LIMIT 1
) AS v
"""  # noqa: S608

VERSION: Final = f"""
SELECT {rows.VERSION} FROM versions v
WHERE v.tenant_id = %(tenant)s AND v.document = %(name)s AND v.version = %(number)s
"""  # noqa: S608

VERSIONS: Final = f"""
SELECT {rows.VERSION} FROM unnest(%(names)b::text[], %(numbers)b::bigint[]) AS wanted(name, number)
CROSS JOIN LATERAL (
    SELECT * FROM versions
    WHERE tenant_id = %(tenant)s AND document = wanted.name AND version = wanted.number LIMIT 1
) AS v
"""  # noqa: S608

# Both rows in one statement; if it waits for a lock, it reads them as they are afterwards. Sorted,
# so that two transactions cannot deadlock.
LOCK_VERSIONS: Final = f"""
SELECT locked.* FROM (
    SELECT * FROM unnest(%(names)b::text[], %(numbers)b::bigint[]) AS given(name, number)
    ORDER BY name COLLATE "C"
) AS wanted
CROSS JOIN LATERAL (
    SELECT {rows.ENTRY}, {rows.VERSION} FROM documents d
    JOIN versions v ON v.tenant_id = d.tenant_id AND v.document = d.name
    WHERE d.tenant_id = %(tenant)s AND d.name = wanted.name AND v.version = wanted.number
    LIMIT 1 FOR UPDATE OF d, v
) AS locked
"""  # noqa: S608

# A known upload is not recorded again, and then nothing else is written either.
#
# Here and in other statements about several documents, rows that exist are changed by an INSERT
# that finds them by their key. An UPDATE that is joined with the given names can read all rows of
# the tenant, for the same reason as above.
ADD: Final = f"""
WITH given AS (
    SELECT * FROM unnest(%(names)b::text[], %(numbers)b::bigint[], %(states)b::text[],
        %(titles)b::text[], %(text_titles)b::text[], %(file_names)b::text[], %(hints)b::text[],
        %(media_types)b::text[], %(metadata)b::jsonb[], %(sizes)b::bigint[],
        %(sha256s)b::text[], %(keys)b::text[], %(sources)b::text[],
        %(request_ids)b::text[], %(event_ids)b::text[], %(correlation_ids)b::text[],
        %(trace_ids)b::text[], %(chunk_counts)b::int[], %(batch_counts)b::int[],
        %(waits_s)b::float8[], %(orders)b::bigint[], %(notes)b::jsonb[],
        %(passwords)b::bytea[], %(lanes)b::text[])
    AS given(name, number, state, title, text_title, file_name, hint, media_type, metadata, size,
        sha256, key, source, request_id, event_id, correlation_id, trace_id, chunk_count,
        batch_count, wait_s, upload_order, notes, password, lane)
), noted AS (
    INSERT INTO uploads (tenant_id, source, request_id, document, version, sha256,
        correlation_id, unchanged, result)
    SELECT %(tenant)s, source, request_id, name, number, sha256, correlation_id, false, ''
    FROM given WHERE request_id <> ''
    ON CONFLICT DO NOTHING RETURNING source, request_id
), first AS (
    SELECT * FROM given WHERE request_id = ''
        OR (source, request_id) IN (SELECT source, request_id FROM noted)
), grown AS (
    INSERT INTO documents AS d (tenant_id, name, latest_version, upload_order)
    SELECT %(tenant)s, name, number, upload_order FROM first
    ON CONFLICT (tenant_id, name) DO UPDATE SET latest_version = excluded.latest_version,
        upload_order = CASE WHEN excluded.upload_order > 0 THEN excluded.upload_order
            ELSE greatest(d.upload_order + 1, {rows.NOW_NS}, {rows.CUT} + 1) END
)
INSERT INTO versions AS v (tenant_id, document, version, state, title, text_title,
    file_name, media_type_hint, media_type, metadata, size_bytes, sha256, object_key, source,
    upload_event_id, correlation_id, trace_id, chunk_count, batch_count, step_due_at, notes,
    password, lane)
SELECT %(tenant)s, name, number, state, title, text_title, file_name, hint, media_type, metadata,
    size, sha256, key, source, event_id, correlation_id, trace_id, chunk_count, batch_count,
    clock_timestamp() + make_interval(secs => wait_s), notes, password, lane
FROM first
RETURNING {rows.VERSION}
"""  # noqa: S608

KEEP_CONTENTS: Final = """
INSERT INTO contents (tenant_id, document, version, content)
SELECT %(tenant)s, given.*
FROM unnest(%(names)b::text[], %(numbers)b::bigint[], %(contents)b::bytea[]) AS given
"""

KEEP_PIECES: Final = """
INSERT INTO chunks (tenant_id, document, version, chunk_id, ordinal, batch, gap, text, start_char,
    end_char, page, page_breaks, headings, table_header, lines)
SELECT %(tenant)s, given.*
FROM unnest(%(names)b::text[], %(numbers)b::bigint[], %(chunk_ids)b::uuid[], %(ordinals)b::int[],
    %(batches)b::int[], %(gaps)b::text[], %(texts)b::text[], %(starts)b::int[], %(ends)b::int[],
    %(pages)b::int[], %(page_breaks)b::jsonb[], %(headings)b::jsonb[], %(table_headers)b::text[],
    %(lines)b::bytea[]) AS given
"""

LOCK_ACCEPTED: Final = """
SELECT version FROM versions
WHERE tenant_id = %(tenant)s AND document = %(name)s AND version = %(number)s
    AND state = 'ACCEPTED' FOR UPDATE
"""

DROP_PIECES: Final = """
DELETE FROM chunks WHERE tenant_id = %(tenant)s AND document = %(name)s AND version = %(number)s
    AND ordinal >= %(first)s
"""

# Ids follow from the place of a piece and how it was cut, so they stand for the texts.
DIGEST_OF_PIECES: Final = """
SELECT sha256(string_agg(uuid_send(chunk_id), ''::bytea ORDER BY ordinal)) AS digest FROM chunks
WHERE tenant_id = %(tenant)s AND document = %(name)s AND version = %(number)s
"""

DESCRIBE: Final = f"""
UPDATE versions v SET title = %(title)s, metadata = %(metadata)s, revision = v.revision + 1,
    description_order = CASE WHEN %(order)s > 0 THEN %(order)s ELSE {rows.NOW_NS} END,
    description_attempt = 0, description_due_at = CASE WHEN v.state <> 'ACCEPTED'
        THEN clock_timestamp() + make_interval(secs => %(wait_s)s) END
WHERE v.tenant_id = %(tenant)s AND v.document = %(name)s AND v.version = %(number)s
RETURNING {rows.VERSION}
"""  # noqa: S608

KEEP_DESCRIPTION: Final = """
UPDATE documents SET description_order = %(order)s,
    description = jsonb_build_object('title', %(title)s::text, 'metadata', %(metadata)s::jsonb)
WHERE tenant_id = %(tenant)s AND name = %(name)s
"""

DESCRIPTION: Final = """
SELECT description FROM documents
WHERE tenant_id = %(tenant)s AND name = %(name)s AND description <> '{}'
"""

# A row that another transaction has locked waits for the next round.
FORGET_DESCRIPTIONS: Final = f"""
UPDATE documents SET description = '{{}}'
WHERE tenant_id = %(tenant)s AND name = ANY(ARRAY(
    SELECT name FROM documents
    WHERE tenant_id = %(tenant)s AND description <> '{{}}'
        AND description_order < {rows.NOW_NS} - (%(age_s)s::float8 * 1000000000)::bigint
    ORDER BY description_order LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
"""  # noqa: S608

CONFIRM_DESCRIPTIONS: Final = """
INSERT INTO versions SELECT known.*
FROM unnest(%(names)b::text[], %(numbers)b::bigint[]) AS heard(name, number)
CROSS JOIN LATERAL (
    SELECT * FROM versions
    WHERE tenant_id = %(tenant)s AND document = heard.name AND version = heard.number LIMIT 1
) AS known
ON CONFLICT (tenant_id, document, version)
DO UPDATE SET description_attempt = 0, description_due_at = NULL
"""

RAISE_ORDER: Final = f"""
UPDATE documents SET upload_order = greatest(upload_order,
    CASE WHEN %(order)s > 0 THEN %(order)s ELSE {rows.NOW_NS} END)
WHERE tenant_id = %(tenant)s AND name = %(name)s
"""  # noqa: S608

READ_SEALED: Final = """
SELECT password FROM versions
WHERE tenant_id = %(tenant)s AND document = %(name)s AND version = %(number)s
"""

CONTENT: Final = """
SELECT content FROM contents
WHERE tenant_id = %(tenant)s AND document = %(name)s AND version = %(number)s
"""

# One statement: without the change of state no chunk is written, so a repeat cannot double them.
PREPARE: Final = f"""
WITH moved AS (
    UPDATE versions v SET state = 'PREPARED', password = NULL, attempt = 0,
        media_type = %(media_type)s, text_title = %(title)s, notes = %(notes)s,
        chunk_count = %(chunk_count)s, batch_count = %(batch_count)s,
        step_due_at = clock_timestamp() + make_interval(secs => %(wait_s)s),
        updated_at = clock_timestamp()
    WHERE v.tenant_id = %(tenant)s AND v.document = %(name)s AND v.version = %(number)s
        AND v.state = ANY(%(sources)s)
    RETURNING {rows.VERSION}
), written AS (
    INSERT INTO chunks (tenant_id, document, version, chunk_id, ordinal, batch, gap, text,
        start_char, end_char, page, page_breaks, headings, table_header, lines)
    SELECT moved.tenant_id, moved.document, moved.version, piece.*
    FROM moved, unnest(%(chunk_ids)b::uuid[], %(ordinals)b::int[], %(batches)b::int[],
        %(gaps)b::text[], %(texts)b::text[], %(starts)b::int[], %(ends)b::int[],
        %(pages)b::int[], %(page_breaks)b::jsonb[], %(headings)b::jsonb[],
        %(table_headers)b::text[], %(lines)b::bytea[]) AS piece
)
SELECT * FROM moved
"""  # noqa: S608

INDEX: Final = f"""
WITH wanted AS (
    SELECT * FROM unnest(%(names)b::text[], %(numbers)b::bigint[]) AS wanted(name, number)
), live AS (
    INSERT INTO documents (tenant_id, name, live_version)
    SELECT %(tenant)s, name, number FROM wanted
    ON CONFLICT (tenant_id, name) DO UPDATE SET live_version = excluded.live_version
), indexed AS (
    INSERT INTO versions SELECT known.* FROM wanted CROSS JOIN LATERAL (
        SELECT * FROM versions
        WHERE tenant_id = %(tenant)s AND document = wanted.name AND version = wanted.number LIMIT 1
    ) AS known
    ON CONFLICT (tenant_id, document, version) DO UPDATE SET state = 'INDEXED', password = NULL,
        reason = '', reason_detail = '', attempt = 0, step_due_at = NULL,
        updated_at = clock_timestamp()
)
INSERT INTO uploads AS u SELECT waiting.* FROM wanted CROSS JOIN LATERAL (
    SELECT * FROM uploads
    WHERE tenant_id = %(tenant)s AND document = wanted.name AND version = wanted.number
        AND result = '' AND source <> '' OFFSET 0
) AS waiting
ON CONFLICT (tenant_id, source, request_id) DO UPDATE SET result = 'INDEXED', result_detail = ''
RETURNING {rows.UPLOAD}
"""  # noqa: S608

# An ACCEPTED version may have a part of its pieces.
FAIL: Final = f"""
WITH emptied AS (
    DELETE FROM chunks c USING versions v
    WHERE v.tenant_id = %(tenant)s AND v.document = %(name)s AND v.version = %(number)s
        AND v.state = 'ACCEPTED' AND c.tenant_id = v.tenant_id AND c.document = v.document
        AND c.version = v.version
), failed AS (
    UPDATE versions SET state = 'FAILED', reason = %(result)s, reason_detail = %(detail)s,
        password = NULL, attempt = 0, step_due_at = NULL, updated_at = clock_timestamp()
    WHERE tenant_id = %(tenant)s AND document = %(name)s AND version = %(number)s
)
{SETTLE}
"""  # noqa: S608

# From the oldest kept version on; the earlier ones are not read.
RETIRED: Final = f"""
SELECT {rows.VERSION} FROM versions v
WHERE v.tenant_id = %(tenant)s AND v.document = %(name)s AND v.version < %(number)s
    AND v.version >= least(%(from)s, (
        SELECT min(k.version) FROM versions k
        WHERE k.tenant_id = %(tenant)s AND k.document = %(name)s AND k.kept))
    AND (v.kept OR v.version >= %(from)s AND v.state = ANY(%(states)s))
ORDER BY v.version FOR UPDATE
"""  # noqa: S608

# A failed version stays FAILED; one that is kept already, or no longer, does not change its state.
# A retired version has no signature, even if it is kept: no text is compared with its text. One
# that is kept before all its pieces were stored keeps its bytes alone.
RETIRE: Final = """
WITH emptied AS (
    DELETE FROM chunks WHERE tenant_id = %(tenant)s AND document = %(name)s
        AND version = ANY(%(dropped)s::bigint[] || ARRAY(
            SELECT version FROM versions WHERE tenant_id = %(tenant)s AND document = %(name)s
                AND version = ANY(%(kept)s) AND state = 'ACCEPTED'))
), forgotten AS (
    DELETE FROM contents WHERE tenant_id = %(tenant)s AND document = %(name)s
        AND version = ANY(%(dropped)s)
), unsigned AS (
    DELETE FROM signatures WHERE tenant_id = %(tenant)s AND document = %(name)s
        AND (version = ANY(%(dropped)s) OR version = ANY(%(kept)s))
    RETURNING signature_id, bands
), unbanded AS (
    DELETE FROM signature_bands b USING unsigned
    WHERE b.tenant_id = %(tenant)s AND b.band = ANY(unsigned.bands)
        AND b.signature_id = unsigned.signature_id
)
UPDATE versions SET state = 'SUPERSEDED', kept = version = ANY(%(kept)s), password = NULL,
    attempt = 0, step_due_at = NULL,
    updated_at = CASE WHEN state = 'SUPERSEDED' THEN updated_at ELSE clock_timestamp() END
WHERE tenant_id = %(tenant)s AND document = %(name)s
    AND (version = ANY(%(dropped)s) AND state <> 'FAILED' OR version = ANY(%(kept)s) AND NOT kept)
"""

HISTORY: Final = f"""
SELECT {rows.ENTRY}, {rows.VERSION} FROM documents d
JOIN versions v ON v.tenant_id = d.tenant_id AND v.document = d.name
WHERE d.tenant_id = %(tenant)s AND d.name = %(name)s AND v.version < %(before)s
ORDER BY v.version DESC LIMIT %(limit)s
"""  # noqa: S608

PIN: Final = f"""
UPDATE documents d SET pinned = %(pinned)s WHERE d.tenant_id = %(tenant)s AND d.name = %(name)s
RETURNING {rows.ENTRY}
"""  # noqa: S608

OVERKEPT: Final = """
SELECT v.document FROM versions v
LEFT JOIN collections c ON c.tenant_id = v.tenant_id
    AND c.collection_id = split_part(v.document, '/', 2)
WHERE v.tenant_id = %(tenant)s AND v.kept
GROUP BY v.document, c.version_retention
HAVING count(*) > coalesce(c.version_retention, 0)
LIMIT %(limit)s
"""

PIECES: Final = f"""
SELECT {rows.PIECE} FROM chunks
WHERE tenant_id = %(tenant)s AND document = %(name)s AND version = %(number)s
    AND ordinal >= %(first)s ORDER BY ordinal LIMIT %(limit)s
"""  # noqa: S608

REPEAT: Final = f"""
UPDATE versions v SET attempt = v.attempt + 1,
    step_due_at = clock_timestamp() + make_interval(secs => %(wait_s)s)
WHERE v.tenant_id = %(tenant)s AND v.document = %(name)s AND v.version = %(number)s
    AND v.state = %(state)s AND v.step_due_at = %(step_due_at)s
    AND NOT EXISTS (
        SELECT FROM outbox o WHERE o.tenant_id = v.tenant_id AND o.document = v.document)
RETURNING {rows.VERSION}
"""  # noqa: S608

REPEAT_DESCRIPTION: Final = f"""
UPDATE versions v SET description_attempt = v.description_attempt + 1,
    description_due_at = clock_timestamp() + make_interval(secs => %(wait_s)s)
WHERE v.tenant_id = %(tenant)s AND v.document = %(name)s AND v.version = %(number)s
    AND v.description_due_at = %(due_at)s
    AND NOT EXISTS (
        SELECT FROM outbox o WHERE o.tenant_id = v.tenant_id AND o.document = v.document)
RETURNING {rows.VERSION}
"""  # noqa: S608

PAGE: Final = f"""
SELECT {rows.ENTRY}, {rows.VERSION} FROM documents d
JOIN versions v ON v.tenant_id = d.tenant_id AND v.document = d.name
    AND v.version = d.latest_version
WHERE d.tenant_id = %(tenant)s AND d.name > %(after)s AND d.name < %(before)s
    AND ({{shown}})
ORDER BY d.name LIMIT %(limit)s
"""  # noqa: S608

# Uses the index on states, so that a page of a rare state does not read all other documents.
PAGE_IN_STATE: Final = f"""
SELECT {rows.ENTRY}, {rows.VERSION} FROM versions v
JOIN documents d ON d.tenant_id = v.tenant_id AND d.name = v.document
    AND d.latest_version = v.version
WHERE v.tenant_id = %(tenant)s AND v.state = %(state)s
    AND v.document > %(after)s AND v.document < %(before)s
    AND ({{shown}})
ORDER BY v.document LIMIT %(limit)s
"""  # noqa: S608

UNFINISHED: Final = """
SELECT count(*) AS documents, coalesce(sum(size_bytes), 0)::bigint AS size_bytes,
    count(*) FILTER (WHERE lane = 'INTERACTIVE') AS interactive
FROM versions
WHERE tenant_id = %(tenant)s AND state = ANY(%(states)s) AND step_due_at IS NOT NULL
"""
