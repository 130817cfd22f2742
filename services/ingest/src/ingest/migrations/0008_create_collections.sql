-- Collections that were created, with their settings; others exist while they have documents. Sizes of 0
-- are those of the service, a retention of 0 is none.
CREATE TABLE collections (
    tenant_id text COLLATE "C" NOT NULL,
    collection_id text COLLATE "C" NOT NULL,
    description text NOT NULL,
    target_chars integer NOT NULL,
    max_chars integer NOT NULL,
    retention_s bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, collection_id)
);
-- In the order of the names of documents, where `/` follows the id.
CREATE INDEX collections_order ON collections (tenant_id, (collection_id || '/'));
ALTER TABLE collections ENABLE ROW LEVEL SECURITY;
ALTER TABLE collections FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON collections TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON collections FOR SELECT TO {service}_sweeper USING (true);
