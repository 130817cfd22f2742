-- Tombstones of tenants: nothing of such a tenant is written here again. `removed` counts what was removed, by table
-- or other store; rows are kept for ever. While `finished_at` is NULL something may be left. The process `claimed_by`
-- removes it; when `claimed_until` has passed another one goes on.
CREATE TABLE deleted_tenants (
    tenant_id text COLLATE "C" PRIMARY KEY,
    removed jsonb NOT NULL DEFAULT '{}',
    claimed_by uuid,
    claimed_until timestamptz NOT NULL DEFAULT '-infinity',
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);
CREATE INDEX deleted_tenants_open ON deleted_tenants (requested_at) WHERE finished_at IS NULL;
ALTER TABLE deleted_tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE deleted_tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON deleted_tenants TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON deleted_tenants FOR SELECT TO {service}_sweeper USING (true);

-- Admits a transaction to a tenant until it ends, unless the tenant is deleted. Whoever removes a tenant holds the same
-- lock alone: it waits for transactions that were admitted before, and those after it see the tombstone.
CREATE FUNCTION enter_tenant(tenant text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('tenant/' || tenant, 0));
    IF EXISTS (SELECT FROM deleted_tenants WHERE tenant_id = tenant) THEN
        RAISE EXCEPTION 'tenant deleted' USING ERRCODE = 'AQ001';
    END IF;
END
$$;
