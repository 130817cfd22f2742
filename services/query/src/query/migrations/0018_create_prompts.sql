-- Prompts of a tenant. The row of a deleted prompt stays with its last number, so that no number ever means two
-- templates: stored answers name them.
CREATE TABLE prompts (
    tenant_id text NOT NULL,
    prompt_id text COLLATE "C" NOT NULL,
    newest_version bigint NOT NULL DEFAULT 0,
    live boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, prompt_id)
);
ALTER TABLE prompts ENABLE ROW LEVEL SECURITY;
ALTER TABLE prompts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON prompts TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));

-- Versions are inserted and deleted, and never updated.
CREATE TABLE prompt_versions (
    tenant_id text NOT NULL,
    prompt_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    template text NOT NULL,
    description text NOT NULL,
    creator text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, prompt_id, version),
    FOREIGN KEY (tenant_id, prompt_id) REFERENCES prompts ON DELETE CASCADE
);
ALTER TABLE prompt_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE prompt_versions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON prompt_versions TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));

-- As they were given: `prompts/support` or `prompts/support@3`; empty: the built-in one.
ALTER TABLE conversations ADD COLUMN prompt text NOT NULL DEFAULT '';
-- The version that was used; empty for answers from before.
ALTER TABLE answers ADD COLUMN prompt text NOT NULL DEFAULT '';
