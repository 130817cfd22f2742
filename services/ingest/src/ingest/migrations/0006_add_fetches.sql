-- Upload events by a reference to another server, until their content is stored or they have a result. `upload` is
-- the event, `stored_ns` its order (see `documents.upload_order`). Who fetches one moves `due_at` beyond the time
-- limit of a fetch, so that another continues after a crash; `attempt` counts attempts that ended without an outcome.
CREATE TABLE fetches (
    tenant_id text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    upload bytea NOT NULL,
    stored_ns bigint NOT NULL,
    trace_id text NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, source, request_id)
);
CREATE INDEX fetches_due ON fetches (tenant_id, due_at);
ALTER TABLE fetches ENABLE ROW LEVEL SECURITY;
ALTER TABLE fetches FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON fetches TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON fetches FOR SELECT TO {service}_sweeper USING (true);
