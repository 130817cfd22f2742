-- Who may upload events: a projection of auth's facts. A row may say `suspended` before its tenant
-- is known here, since facts come in any order: `sequence` is that of the suspension or resumption that
-- `suspended` is of, 0 before there was one, and the highest holds.
CREATE TABLE tenants (
    tenant_id text COLLATE "C" PRIMARY KEY,
    suspended boolean NOT NULL,
    sequence bigint NOT NULL DEFAULT 0
);
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tenants TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON tenants FOR SELECT TO {service}_sweeper USING (true);

-- One row per name; its lock puts everything that happens to a document in a line. Versions up to
-- `tombstone_version` are deleted or being deleted, those up to `hidden_version` no search finds.
-- `upload_order` is the time of the latest upload or delete in nanoseconds since 1970: the broker's for
-- an upload event, the database's for a call. What is earlier comes too late.
CREATE TABLE documents (
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    latest_version bigint NOT NULL DEFAULT 0,
    live_version bigint NOT NULL DEFAULT 0,
    tombstone_version bigint NOT NULL DEFAULT 0,
    hidden_version bigint NOT NULL DEFAULT 0,
    upload_order bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, name)
);
ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE documents FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON documents TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));

-- Times are the database's, so that no service's clock orders anything. `step_due_at` is set while
-- work is pending and says when it is doubted; `title` is the producer's, `text_title` that of the text,
-- `revision` counts changes of title and metadata; `source` is empty for an upload over gRPC; `object_key`
-- is empty where the bytes lie in `contents`. What a purge removes outside of the database is noted
-- before the transaction that ends it: the receipt adds up what all its attempts removed. Dead letters
-- are kept by document and noted at the version the delete goes up to.
CREATE TABLE versions (
    tenant_id text COLLATE "C" NOT NULL,
    document text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    state text NOT NULL CHECK (state IN (
        'ACCEPTED', 'PREPARED', 'INDEXED', 'FAILED', 'SUPERSEDED', 'DELETING', 'DELETED')),
    reason text NOT NULL DEFAULT '',
    reason_detail text NOT NULL DEFAULT '',
    title text NOT NULL,
    text_title text NOT NULL DEFAULT '',
    file_name text NOT NULL,
    media_type_hint text NOT NULL,
    media_type text NOT NULL DEFAULT '',
    metadata jsonb NOT NULL,
    revision bigint NOT NULL DEFAULT 0,
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    object_key text NOT NULL,
    source text NOT NULL,
    upload_event_id text NOT NULL,
    correlation_id text NOT NULL,
    trace_id text NOT NULL,
    chunk_count integer NOT NULL DEFAULT 0,
    batch_count integer NOT NULL DEFAULT 0,
    attempt integer NOT NULL DEFAULT 0,
    step_due_at timestamptz,
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    receipt jsonb,
    object_purged boolean NOT NULL DEFAULT false,
    dead_letters_purged bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, document, version),
    CHECK ((state = 'FAILED') = (reason <> '')),
    CHECK (step_due_at IS NULL OR state IN ('ACCEPTED', 'PREPARED', 'DELETING')),
    CHECK (step_due_at IS NOT NULL OR state NOT IN ('ACCEPTED', 'PREPARED'))
);
CREATE INDEX versions_pending ON versions (tenant_id, state, step_due_at, updated_at)
    WHERE step_due_at IS NOT NULL;
CREATE INDEX versions_state ON versions (tenant_id, state, document);
ALTER TABLE versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE versions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON versions TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON versions FOR SELECT TO {service}_sweeper USING (true);

-- Every accepted upload that can be repeated: an upload event by its source and id, kept for ever;
-- a gRPC upload by its request id, with an empty source. An event's `result` is empty until it has one.
-- `version` is 0 for an upload that was handled after a later one, and for an event that was refused.
CREATE TABLE uploads (
    tenant_id text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    document text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    sha256 text NOT NULL,
    correlation_id text NOT NULL,
    unchanged boolean NOT NULL,
    result text NOT NULL,
    result_detail text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, source, request_id)
);
CREATE INDEX uploads_waiting ON uploads (tenant_id, document, version)
    WHERE result = '' AND source <> '';
CREATE INDEX uploads_requests ON uploads (created_at) WHERE source = '';
ALTER TABLE uploads ENABLE ROW LEVEL SECURITY;
ALTER TABLE uploads FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON uploads TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON uploads TO {service}_sweeper USING (source = '') WITH CHECK (false);

-- Bytes of small uploads; they go with their version.
CREATE TABLE contents (
    tenant_id text COLLATE "C" NOT NULL,
    document text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (tenant_id, document, version)
);
ALTER TABLE contents ENABLE ROW LEVEL SECURITY;
ALTER TABLE contents FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON contents TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));

-- Text of versions that are on their way or live; what can be embedded again. `page_breaks` holds
-- `[offset, page]` of each page that begins inside a chunk.
CREATE TABLE chunks (
    tenant_id text COLLATE "C" NOT NULL,
    document text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    ordinal integer NOT NULL,
    chunk_id uuid NOT NULL,
    batch integer NOT NULL,
    text text NOT NULL,
    start_char integer NOT NULL,
    end_char integer NOT NULL,
    page integer NOT NULL,
    page_breaks jsonb NOT NULL,
    PRIMARY KEY (tenant_id, document, version, ordinal)
);
ALTER TABLE chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE chunks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON chunks TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
