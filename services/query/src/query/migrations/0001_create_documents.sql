-- What query knows of each document. A row that holds a tombstone is never removed, also for a
-- document that was never seen: nothing late can bring it back.
CREATE TABLE documents (
    tenant_id text NOT NULL,
    document text NOT NULL,
    collection text NOT NULL,
    -- The version searches see; 0: none yet.
    live_version bigint NOT NULL DEFAULT 0,
    -- All versions up to this one are deleted; 0: none.
    tombstone_version bigint NOT NULL DEFAULT 0,
    -- Versions above the live one that were given up.
    failed_versions bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, document)
);
ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE documents FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON documents TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON documents FOR SELECT TO {service}_sweeper USING (true);

-- Versions of several batches on their way in; `seen` has one bit for each batch.
CREATE TABLE progress (
    tenant_id text NOT NULL,
    document text NOT NULL,
    version bigint NOT NULL,
    batch_count integer NOT NULL,
    chunk_count integer NOT NULL,
    seen bit varying NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, document, version)
);
ALTER TABLE progress ENABLE ROW LEVEL SECURITY;
ALTER TABLE progress FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON progress TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON progress FOR SELECT TO {service}_sweeper USING (true);

-- The text of live versions and of those on their way in. Every row has a point in the vector
-- store, and every point a row.
CREATE TABLE passages (
    tenant_id text NOT NULL,
    document text NOT NULL,
    version bigint NOT NULL,
    ordinal integer NOT NULL,
    chunk_id uuid NOT NULL,
    point_id uuid NOT NULL,
    text text NOT NULL,
    -- Character offsets in the document's cleaned text, the end exclusive.
    start_offset integer NOT NULL,
    end_offset integer NOT NULL,
    page integer NOT NULL,
    -- `[offset, page]` of each page that begins inside it.
    page_breaks jsonb NOT NULL,
    ingest_trace_id text NOT NULL,
    PRIMARY KEY (tenant_id, document, version, ordinal)
);
CREATE UNIQUE INDEX passages_point ON passages (tenant_id, point_id);
ALTER TABLE passages ENABLE ROW LEVEL SECURITY;
ALTER TABLE passages FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON passages TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));

-- Title and metadata of the versions that have passages, or may have some soon.
CREATE TABLE descriptions (
    tenant_id text NOT NULL,
    document text NOT NULL,
    version bigint NOT NULL,
    title text NOT NULL,
    metadata jsonb NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (tenant_id, document, version)
);
ALTER TABLE descriptions ENABLE ROW LEVEL SECURITY;
ALTER TABLE descriptions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON descriptions TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));

-- Versions whose passages are removed and whose points must still be removed.
CREATE TABLE removed_versions (
    tenant_id text NOT NULL,
    document text NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (tenant_id, document, version)
);
ALTER TABLE removed_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE removed_versions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON removed_versions TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON removed_versions FOR SELECT TO {service}_sweeper USING (true);

-- What finished deletions removed, added up over their repeats.
CREATE TABLE purges (
    tenant_id text NOT NULL,
    document text NOT NULL,
    version bigint NOT NULL,
    passages bigint NOT NULL DEFAULT 0,
    points bigint NOT NULL DEFAULT 0,
    dead_letters bigint NOT NULL DEFAULT 0,
    redacted_answers bigint NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, document, version)
);
ALTER TABLE purges ENABLE ROW LEVEL SECURITY;
ALTER TABLE purges FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON purges TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));

-- The vector store of each embedding profile that holds all its points. One with another id has lost
-- them; while `complete` is false searches are refused.
CREATE TABLE vector_stores (
    profile text PRIMARY KEY,
    store_id uuid,
    complete boolean NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
