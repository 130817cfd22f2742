-- Answers as they were given. `text` and the quotes in `citations` are emptied when a document
-- they rest on is deleted; `redacted_at` says that this happened.
CREATE TABLE answers (
    tenant_id text NOT NULL,
    answer_id uuid NOT NULL,
    principal text NOT NULL,
    question text NOT NULL,
    text text NOT NULL,
    citations jsonb NOT NULL,
    finish_reason text NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    model text NOT NULL,
    generative boolean NOT NULL,
    confidence double precision NOT NULL,
    trace_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    redacted_at timestamptz,
    PRIMARY KEY (tenant_id, answer_id)
);
ALTER TABLE answers ENABLE ROW LEVEL SECURITY;
ALTER TABLE answers FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON answers TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));

-- The versions whose words an answer may repeat: those it cites and, when its model composes text,
-- those the model was shown.
CREATE TABLE answer_sources (
    tenant_id text NOT NULL,
    answer_id uuid NOT NULL,
    document text NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (tenant_id, answer_id, document, version),
    FOREIGN KEY (tenant_id, answer_id) REFERENCES answers ON DELETE CASCADE
);
CREATE INDEX answer_sources_document ON answer_sources (tenant_id, document);
ALTER TABLE answer_sources ENABLE ROW LEVEL SECURITY;
ALTER TABLE answer_sources FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON answer_sources TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
