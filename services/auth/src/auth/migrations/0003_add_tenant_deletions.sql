-- Tombstones of tenants; a row stays for ever, as does that of its tenant, so the id is never used again. `receipts` holds
-- by service what it has removed; `finished_at` is set when every service has reported. While it is NULL the order is
-- sent again from time to time: `attempts` counts how often, `sent_at` is the last time.
CREATE TABLE tenant_deletions (
    tenant_id text COLLATE "C" PRIMARY KEY REFERENCES tenants,
    receipts jsonb NOT NULL DEFAULT '{}',
    attempts integer NOT NULL DEFAULT 1,
    sent_at timestamptz NOT NULL,
    requested_at timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE INDEX tenant_deletions_open ON tenant_deletions (sent_at) WHERE finished_at IS NULL;
ALTER TABLE tenant_deletions ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant_deletions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tenant_deletions TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON tenant_deletions FOR SELECT TO {service}_sweeper USING (true);
