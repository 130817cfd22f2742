"""SQL of the rows of one tenant; every statement names the tenant."""

from typing import Final

from query.store.records import IN_USE

STANDING: Final = "live_version, tombstone_version, failed_versions, labels, labels_order"

# When the version of a row was live, if it is kept; both are NULL if it is live, or may become so.
_OF_KEPT: Final = """(
    SELECT {{column}} FROM superseded_versions AS old
    WHERE old.tenant_id = {table}.tenant_id AND old.document = {table}.document
        AND old.version = {table}.version
) AS {{column}}"""


def select_life(table: str) -> str:
    """The columns `live_at` and `superseded_at` of the version that a row of a table is of."""
    column = _OF_KEPT.format(table=table)
    return ", ".join(column.format(column=one) for one in ("live_at", "superseded_at"))


LOCK: Final = f"""
INSERT INTO documents (tenant_id, document, collection)
SELECT %(tenant)s, given.* FROM unnest(%(documents)b::text[], %(collections)b::text[]) AS given
ON CONFLICT (tenant_id, document) DO UPDATE SET collection = excluded.collection
RETURNING document, {STANDING}
"""  # noqa: S608  (a constant of this module)

LOCK_PROFILES: Final = f"SELECT {IN_USE} FROM profiles_in_use FOR SHARE"  # noqa: S608

# A description that came before is only replaced by a later one.
DESCRIBE: Final = """
INSERT INTO descriptions AS known (tenant_id, document, version, title, metadata, revision,
                                  created_at)
SELECT %(tenant)s, given.*
FROM unnest(%(described)b::text[], %(described_versions)b::bigint[], %(titles)b::text[],
            %(metadata)b::jsonb[], %(revisions)b::bigint[], %(created)s::timestamptz[]) AS given
ON CONFLICT (tenant_id, document, version) DO UPDATE
SET title = excluded.title, metadata = excluded.metadata, revision = excluded.revision,
    created_at = coalesce(excluded.created_at, known.created_at)
WHERE known.revision < excluded.revision
"""

PUT: Final = f"""
WITH described AS ({DESCRIBE})
INSERT INTO passages (tenant_id, document, version, ingest_trace_id, upload_event_id, ordinal,
                      chunk_id, point_id, text, start_offset, end_offset, page, page_breaks,
                      headings, table_header, lines, vector, vector_profile)
SELECT %(tenant)s, given.*
FROM unnest(%(documents)b::text[], %(versions)b::bigint[], %(traces)b::text[],
            %(upload_event_ids)b::text[],
            %(ordinals)b::int[], %(chunk_ids)b::uuid[], %(point_ids)b::uuid[], %(texts)b::text[],
            %(starts)b::int[], %(ends)b::int[], %(pages)b::int[],
            %(page_breaks)b::jsonb[], %(headings)b::jsonb[], %(table_headers)b::text[],
            %(lines)b::bytea[], %(vectors)b::bytea[], %(vector_profiles)b::text[]) AS given
ON CONFLICT (tenant_id, document, version, ordinal) DO UPDATE
SET ingest_trace_id = excluded.ingest_trace_id,
    upload_event_id = excluded.upload_event_id,
    chunk_id = excluded.chunk_id, point_id = excluded.point_id, text = excluded.text,
    start_offset = excluded.start_offset, end_offset = excluded.end_offset, page = excluded.page,
    page_breaks = excluded.page_breaks, headings = excluded.headings,
    table_header = excluded.table_header, lines = excluded.lines, vector = excluded.vector,
    vector_profile = excluded.vector_profile
"""  # noqa: S608  (a constant of this module)

# `given` holds a document several times if points are stored with its labels from several times.
# The documents' rows are locked, so nothing changes between the parts.
#
# The LIMIT 1 on a unique key, and an INSERT that finds rows that exist by their key, make the
# planner look rows up: without statistics of a tenant, it would read all rows of the tenant.
LABEL: Final = """
WITH given AS (
    SELECT document, string_to_array(nullif(labels, ''), ',') AS labels, labels_order
    FROM unnest(%(labelled)b::text[], %(labels)b::text[], %(orders)b::bigint[])
        AS given(document, labels, labels_order)
), known AS (
    SELECT d.*, labels_order > 0 OR live_version > 0 AS has_points
    FROM (SELECT DISTINCT unnest(%(labelled)b::text[]) AS document) AS wanted
    CROSS JOIN LATERAL (
        SELECT document, collection, labels, labels_order, live_version FROM documents
        WHERE tenant_id = %(tenant)s AND document = wanted.document LIMIT 1
    ) AS d
), newest AS (
    SELECT DISTINCT ON (document) document, coalesce(labels, '{}') AS labels, labels_order
    FROM (SELECT document, labels, labels_order FROM known UNION ALL SELECT * FROM given) AS every
    ORDER BY document, labels_order DESC
), changed AS (
    INSERT INTO documents AS d (tenant_id, document, collection, labels, labels_order)
    SELECT %(tenant)s, document, known.collection, newest.labels, newest.labels_order
    FROM newest JOIN known USING (document) WHERE known.labels_order < newest.labels_order
    ON CONFLICT (tenant_id, document)
    DO UPDATE SET labels = excluded.labels, labels_order = excluded.labels_order
)
INSERT INTO relabelled_documents (tenant_id, document)
SELECT %(tenant)s, document FROM newest JOIN known USING (document)
WHERE known.has_points AND known.labels <> newest.labels OR EXISTS (
    SELECT FROM given
    WHERE given.document = newest.document AND coalesce(given.labels, '{}') <> newest.labels)
ON CONFLICT (tenant_id, document) DO UPDATE SET document = excluded.document
RETURNING document
"""

SHARE_LABELS: Final = """
SELECT labels, labels_order FROM documents
WHERE tenant_id = %(tenant)s AND document = %(document)s FOR SHARE
"""

# Descriptions change under the lock of their document. That of a superseded version changes no
# more: once its points know it, only those of other versions have to be written.
DESCRIPTIONS: Final = f"""
SELECT version, title, metadata, revision, created_at, {select_life("descriptions")}
FROM descriptions
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version NOT IN (
    SELECT version FROM superseded_versions
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND points_know)
"""  # noqa: S608

# LIMIT 1: see `LABEL`.
RECORD_DESCRIBED: Final = """
WITH given AS (
    SELECT * FROM unnest(%(described)b::text[], %(described_versions)b::bigint[],
                         %(revisions)b::bigint[]) AS given(document, version, revision)
)
INSERT INTO relabelled_documents (tenant_id, document)
SELECT %(tenant)s, given.document FROM given
CROSS JOIN LATERAL (
    SELECT revision FROM descriptions
    WHERE tenant_id = %(tenant)s AND document = given.document AND version = given.version LIMIT 1
) AS known
WHERE known.revision <> given.revision
UNION
SELECT %(tenant)s, document FROM given
GROUP BY document, version HAVING count(DISTINCT revision) > 1
ON CONFLICT DO NOTHING
"""

FINISH_UPDATE: Final = """
WITH known AS (
    UPDATE superseded_versions SET points_know = true
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND NOT points_know
)
DELETE FROM relabelled_documents WHERE tenant_id = %(tenant)s AND document = %(document)s
"""

MARK: Final = """
INSERT INTO progress (tenant_id, document, version, batch_count, chunk_count, seen)
VALUES (%(tenant)s, %(document)s, %(version)s, %(batch_count)s, %(chunk_count)s,
        set_bit(repeat('0', %(batch_count)s)::bit varying, %(batch)s, 1))
ON CONFLICT (tenant_id, document, version) DO UPDATE SET seen = progress.seen | excluded.seen
WHERE progress.batch_count = excluded.batch_count AND progress.chunk_count = excluded.chunk_count
RETURNING bit_count(seen) = batch_count AS complete
"""

COUNT: Final = """
SELECT count(*) AS passages FROM passages
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
"""

# The version that was live stays if a history is kept. What was stored of versions after it goes,
# because none of them ever was complete. Of those before it only kept ones are left: they are not
# looked at, because they may be many. One moment ends the life of a version and begins that of the
# next.
GO_LIVE: Final = """
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), before AS (
    SELECT live_version, live_at, tombstone_version FROM documents
    WHERE tenant_id = %(tenant)s AND document = %(document)s
), kept AS (
    INSERT INTO superseded_versions (tenant_id, document, version, live_at, superseded_at)
    SELECT %(tenant)s, %(document)s, live_version, live_at, moment.now FROM before, moment
    WHERE live_version > tombstone_version
        AND EXISTS (SELECT FROM history WHERE since IS NOT NULL)
    RETURNING version
), moved AS (
    INSERT INTO relabelled_documents (tenant_id, document)
    SELECT %(tenant)s, %(document)s FROM kept ON CONFLICT DO NOTHING
), removed AS (
    DELETE FROM passages
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version < %(version)s
        AND version >= (SELECT live_version FROM before)
        AND version NOT IN (SELECT version FROM kept)
    RETURNING tenant_id, document, version
), recorded AS (
    INSERT INTO removed_versions (tenant_id, document, version)
    SELECT DISTINCT tenant_id, document, version FROM removed ON CONFLICT DO NOTHING
), undescribed AS (
    DELETE FROM descriptions
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version < %(version)s
        AND version >= (SELECT live_version FROM before)
        AND version NOT IN (SELECT version FROM kept)
), finished AS (
    DELETE FROM progress
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(version)s
)
UPDATE documents
SET live_version = %(version)s, live_at = moment.now,
    failed_versions = ARRAY(SELECT v FROM unnest(failed_versions) AS v WHERE v > %(version)s)
FROM moment
WHERE tenant_id = %(tenant)s AND document = %(document)s
"""

# Records that the points of a kept version have to say that it is superseded. The rows of a deleted
# one stay until the end of its deletion, but its points have to go.
MOVE_SUPERSEDED: Final = """
WITH kept AS (
    UPDATE superseded_versions SET points_know = false
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
        AND version > (SELECT tombstone_version FROM documents
                       WHERE tenant_id = %(tenant)s AND document = %(document)s)
    RETURNING tenant_id, document
)
INSERT INTO relabelled_documents (tenant_id, document) SELECT * FROM kept
ON CONFLICT (tenant_id, document) DO UPDATE SET document = excluded.document
"""

FORGET_SUPERSEDED: Final = """
WITH forgotten AS (
    DELETE FROM superseded_versions
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
    RETURNING tenant_id, document, version
), removed AS (
    DELETE FROM passages USING forgotten
    WHERE passages.tenant_id = forgotten.tenant_id AND passages.document = forgotten.document
        AND passages.version = forgotten.version
), undescribed AS (
    DELETE FROM descriptions USING forgotten
    WHERE descriptions.tenant_id = forgotten.tenant_id
        AND descriptions.document = forgotten.document AND descriptions.version = forgotten.version
)
INSERT INTO removed_versions (tenant_id, document, version)
SELECT tenant_id, document, version FROM forgotten ON CONFLICT DO NOTHING
"""

# The documents have rows: see `LABEL`.
GO_LIVE_FIRST: Final = """
WITH given AS (
    SELECT * FROM unnest(%(documents)b::text[], %(collections)b::text[], %(versions)b::bigint[])
        AS given(document, collection, version)
), finished AS (
    DELETE FROM progress USING given
    WHERE tenant_id = %(tenant)s
        AND progress.document = given.document AND progress.version = given.version
)
INSERT INTO documents (tenant_id, document, collection, live_version, live_at)
SELECT %(tenant)s, given.document, given.collection, given.version, clock_timestamp() FROM given
ON CONFLICT (tenant_id, document)
DO UPDATE SET live_version = excluded.live_version, live_at = excluded.live_at
"""

FAIL: Final = """
WITH removed AS (
    DELETE FROM passages
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
    RETURNING tenant_id, document, version
), recorded AS (
    INSERT INTO removed_versions (tenant_id, document, version)
    SELECT DISTINCT tenant_id, document, version FROM removed ON CONFLICT DO NOTHING
), undescribed AS (
    DELETE FROM descriptions
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
), finished AS (
    DELETE FROM progress
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
)
UPDATE documents SET failed_versions = failed_versions || %(version)s::bigint
WHERE tenant_id = %(tenant)s AND document = %(document)s
"""

HIDE: Final = """
INSERT INTO documents AS known (tenant_id, document, collection, tombstone_version)
SELECT %(tenant)s, given.*
FROM unnest(%(documents)b::text[], %(collections)b::text[], %(versions)b::bigint[]) AS given
ON CONFLICT (tenant_id, document) DO UPDATE
SET tombstone_version = GREATEST(known.tombstone_version, excluded.tombstone_version)
"""

BEGIN_PURGE: Final = """
INSERT INTO purges AS known (tenant_id, document, version, points)
VALUES (%(tenant)s, %(document)s, %(version)s, %(points)s)
ON CONFLICT (tenant_id, document, version) DO UPDATE
SET points = GREATEST(known.points, excluded.points)
"""

DISCARDED: Final = """
UPDATE purges SET dead_letters = dead_letters + %(dead_letters)s
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
"""

# Each answer once: a repeat finds nothing of the document in it.
REDACT: Final = """
WITH citing AS (
    SELECT DISTINCT answer_id FROM answer_sources
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(version)s
)
UPDATE answers AS known
SET text = '', feedback_reason = '', redacted_at = COALESCE(redacted_at, now()), citations = (
    SELECT COALESCE(jsonb_agg(
        CASE WHEN one->>'document' = %(document)s AND (one->>'version')::bigint <= %(version)s
             THEN one || '{"text": "", "title": "", "metadata": {}, "quote": "", "headings": [],
                             "table_header": "", "lines": ""}'
             ELSE one END ORDER BY place
    ), '[]') FROM jsonb_array_elements(known.citations) WITH ORDINALITY AS given(one, place))
FROM citing
WHERE known.tenant_id = %(tenant)s AND known.answer_id = citing.answer_id
    AND (known.redacted_at IS NULL OR EXISTS (
        SELECT FROM jsonb_array_elements(known.citations) AS one
        WHERE one->>'document' = %(document)s AND (one->>'version')::bigint <= %(version)s
            AND one->>'text' <> ''))
"""

REMOVE_PASSAGES: Final = """
WITH finished AS (
    DELETE FROM progress
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(version)s
), undescribed AS (
    DELETE FROM descriptions
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(version)s
), unrecorded AS (
    DELETE FROM removed_versions
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(version)s
), forgotten AS (
    DELETE FROM superseded_versions
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(version)s
)
DELETE FROM passages
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(version)s
"""

FINISH_PURGE: Final = """
UPDATE purges
SET passages = passages + %(passages)s,
    redacted_answers = redacted_answers + %(answers)s, finished_at = now()
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
RETURNING passages, points, dead_letters, redacted_answers
"""

# Sorted, so that two transactions cannot deadlock. LIMIT 1: see `LABEL`.
SHARE_DOCUMENTS: Final = """
SELECT shared.document FROM (
    SELECT DISTINCT passage.document FROM unnest(%(point_ids)s::uuid[]) AS wanted(point_id)
    CROSS JOIN LATERAL (
        SELECT document FROM passages
        WHERE tenant_id = %(tenant)s AND point_id = wanted.point_id LIMIT 1
    ) AS passage
    ORDER BY document
) AS wanted
CROSS JOIN LATERAL (
    SELECT document FROM documents
    WHERE tenant_id = %(tenant)s AND document = wanted.document LIMIT 1 FOR SHARE
) AS shared
"""

# The passages of a deleted version stay until the end of its deletion, after its points.
STILL_THERE: Final = f"""
SELECT wanted.point_id, known.labels, passage.version, title, metadata, revision, created_at,
    live_at, superseded_at
FROM unnest(%(point_ids)s::uuid[]) AS wanted(point_id)
CROSS JOIN LATERAL (
    SELECT document, version FROM passages
    WHERE tenant_id = %(tenant)s AND point_id = wanted.point_id LIMIT 1
) AS passage
CROSS JOIN LATERAL (
    SELECT labels, tombstone_version FROM documents
    WHERE tenant_id = %(tenant)s AND document = passage.document LIMIT 1
) AS known
CROSS JOIN LATERAL (
    SELECT title, metadata, revision, created_at, {select_life("descriptions")}
    FROM descriptions
    WHERE tenant_id = %(tenant)s AND document = passage.document AND version = passage.version
    LIMIT 1
) AS described
WHERE passage.version > known.tombstone_version
"""  # noqa: S608
