-- Tenants. Ids are compared byte by byte, independent of the database's locale.
CREATE TABLE tenants (
    tenant_id text COLLATE "C" PRIMARY KEY CHECK (tenant_id ~ '^[a-z0-9-]{1,63}$'),
    display_name text NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 128),
    created_at timestamptz NOT NULL,
    suspended_at timestamptz
);
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tenants TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON tenants FOR SELECT TO {service}_sweeper USING (true);

-- API keys without their secrets. `proof` is HMAC-SHA-256 over key id and secret, under a pepper
-- that is not in the database. Rows are never deleted, so revoked and expired keys can be explained.
CREATE TABLE keys (
    key_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES tenants,
    principal text NOT NULL,
    display_name text NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 128),
    scopes text[] NOT NULL CHECK (cardinality(scopes) > 0),
    proof bytea NOT NULL CHECK (octet_length(proof) = 32),
    pepper_version integer NOT NULL,
    request_id text CHECK (char_length(request_id) BETWEEN 1 AND 128),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at > created_at),
    revoked_at timestamptz,
    UNIQUE (tenant_id, request_id)
);
CREATE INDEX keys_newest ON keys (tenant_id, created_at DESC, key_id DESC);
ALTER TABLE keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON keys FOR SELECT TO {service}_sweeper USING (true);

-- What every process must refuse, in commit order; without a key id, a whole tenant.
CREATE TABLE revocations (
    sequence bigint PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES tenants,
    key_id text COLLATE "C" REFERENCES keys,
    revoked_at timestamptz NOT NULL
);
CREATE INDEX revocations_recent ON revocations (revoked_at);
ALTER TABLE revocations ENABLE ROW LEVEL SECURITY;
ALTER TABLE revocations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON revocations TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON revocations FOR SELECT TO {service}_sweeper USING (true);

-- The last assigned sequence; no row before the first. The row stays locked until the revocation that
-- uses the number commits, so nobody reads a number while a smaller one is still uncommitted.
CREATE TABLE revocation_counter (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    latest bigint NOT NULL
);
REVOKE DELETE ON revocation_counter FROM {service};
REVOKE INSERT, UPDATE, DELETE ON revocation_counter FROM {service}_sweeper;

-- The audit log of changes of tenants and keys. Written with the change, never changed itself.
CREATE TABLE audit (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES tenants,
    acted_at timestamptz NOT NULL,
    actor_tenant text NOT NULL,
    actor_principal text NOT NULL,
    actor_key_id text NOT NULL,
    act text NOT NULL,
    subject text NOT NULL
);
CREATE INDEX audit_tenant ON audit (tenant_id, acted_at);
ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
REVOKE UPDATE, DELETE ON audit FROM {service}, {service}_sweeper;
