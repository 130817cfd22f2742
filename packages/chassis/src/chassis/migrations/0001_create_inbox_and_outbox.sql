-- One row per event whose effect is committed: a redelivery finds it and repeats nothing. `key` is the
-- uuid5 of the consumer and the event's id; no word of a document is kept here.
CREATE TABLE inbox (
    tenant_id text NOT NULL,
    key uuid NOT NULL,
    handled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX inbox_handled ON inbox USING brin (handled_at);
ALTER TABLE inbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE inbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON inbox TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON inbox TO {service}_sweeper USING (true) WITH CHECK (true);

-- Events until the broker has them, written by the transaction that caused them. `event` is the full
-- name of the message; `place` orders a tenant's events of one kind, where they wait for their turn.
CREATE TABLE outbox (
    outbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    document text NOT NULL,
    event text NOT NULL,
    subject text NOT NULL,
    headers jsonb NOT NULL,
    payload bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    place timestamptz NOT NULL
);
CREATE INDEX outbox_turn ON outbox (event, tenant_id, place);
CREATE INDEX outbox_document ON outbox (tenant_id, document);
ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON outbox TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON outbox TO {service}_sweeper USING (true) WITH CHECK (true);
