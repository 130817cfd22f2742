-- Versions that were live once and were superseded since. Their passages stay, so that searches can look back.
-- `live_at` is NULL for versions that went live before this table.
CREATE TABLE superseded_versions (
    tenant_id text NOT NULL,
    document text NOT NULL,
    version bigint NOT NULL,
    live_at timestamptz,
    superseded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, document, version)
);
CREATE INDEX superseded_versions_age ON superseded_versions (superseded_at);
ALTER TABLE superseded_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE superseded_versions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON superseded_versions TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON superseded_versions FOR SELECT TO {service}_sweeper USING (true);

-- When the live version went live; NULL if that was before this column.
ALTER TABLE documents ADD COLUMN live_at timestamptz;

-- Since when every superseded version is kept, in one row; NULL, or no row: none is.
CREATE TABLE history (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    since timestamptz
);
