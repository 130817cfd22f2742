-- Uploads in several calls, until they are finished or expire. The first `offset_bytes` of `size_bytes` are
-- durable, as objects that `upload_parts` lists. A finished upload has no row here: it is known by its id in
-- `uploads`, like any other.
CREATE TABLE upload_sessions (
    tenant_id text COLLATE "C" NOT NULL,
    upload_id text COLLATE "C" NOT NULL,
    document text COLLATE "C" NOT NULL,
    sha256 text NOT NULL,
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    offset_bytes bigint NOT NULL DEFAULT 0 CHECK (offset_bytes BETWEEN 0 AND size_bytes),
    file_name text NOT NULL,
    media_type text NOT NULL,
    title text NOT NULL,
    metadata jsonb NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, upload_id),
    UNIQUE (tenant_id, document, sha256, size_bytes)
);
CREATE INDEX upload_sessions_expiry ON upload_sessions (expires_at);
ALTER TABLE upload_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE upload_sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON upload_sessions TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON upload_sessions FOR SELECT TO {service}_sweeper USING (true);

CREATE TABLE upload_parts (
    tenant_id text COLLATE "C" NOT NULL,
    upload_id text COLLATE "C" NOT NULL,
    start_byte bigint NOT NULL,
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    sha256 text NOT NULL,
    object_key text NOT NULL,
    PRIMARY KEY (tenant_id, upload_id, start_byte)
);
ALTER TABLE upload_parts ENABLE ROW LEVEL SECURITY;
ALTER TABLE upload_parts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON upload_parts TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
