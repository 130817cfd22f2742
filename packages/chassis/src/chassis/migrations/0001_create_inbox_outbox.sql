-- One row per event whose effect is committed: a redelivery finds it and repeats nothing.
-- outgoing_* hold the events that effect publishes, in order, until the broker has them.
CREATE TABLE inbox (
    tenant_id text NOT NULL,
    consumer text NOT NULL,
    event_id text NOT NULL,
    document text NOT NULL DEFAULT '',
    handled_at timestamptz NOT NULL DEFAULT now(),
    outgoing_subjects text[] NOT NULL DEFAULT '{}',
    outgoing_headers jsonb NOT NULL DEFAULT '[]',
    outgoing_payloads bytea[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, consumer, event_id)
);
CREATE INDEX inbox_document ON inbox (tenant_id, document);
CREATE INDEX inbox_handled ON inbox (handled_at);
ALTER TABLE inbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE inbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON inbox TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON inbox TO {service}_sweeper USING (true) WITH CHECK (true);

-- Events of transactions that no incoming message would ever repeat; the relay publishes them.
CREATE TABLE outbox (
    outbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    document text NOT NULL DEFAULT '',
    subject text NOT NULL,
    headers jsonb NOT NULL,
    payload bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_document ON outbox (tenant_id, document);
ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON outbox TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON outbox TO {service}_sweeper USING (true) WITH CHECK (true);
