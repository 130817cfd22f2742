-- Conversations of a principal with their settings. `active_at` is when the last message was stored.
CREATE TABLE conversations (
    tenant_id text NOT NULL,
    conversation_id uuid NOT NULL,
    principal text NOT NULL,
    title text NOT NULL,
    model text NOT NULL,
    collection text NOT NULL,
    filter text NOT NULL,
    max_output_tokens integer NOT NULL,
    message_count integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    active_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, conversation_id)
);
CREATE INDEX conversations_active
    ON conversations (tenant_id, principal, active_at DESC, conversation_id DESC);
ALTER TABLE conversations ENABLE ROW LEVEL SECURITY;
ALTER TABLE conversations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON conversations TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));

-- Questions and answers in order. A question has `question` and maybe `request_id`; an answer has
-- `answer_id`: its text is in `answers` alone, where deletions of documents remove it.
CREATE TABLE messages (
    tenant_id text NOT NULL,
    conversation_id uuid NOT NULL,
    number integer NOT NULL,
    question text,
    request_id text,
    answer_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, conversation_id, number),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, answer_id) REFERENCES answers ON DELETE CASCADE,
    CHECK ((question IS NULL) <> (answer_id IS NULL))
);
CREATE UNIQUE INDEX messages_request ON messages (tenant_id, conversation_id, request_id)
    WHERE request_id IS NOT NULL;
-- Needed to delete an answer.
CREATE INDEX messages_answer ON messages (tenant_id, answer_id) WHERE answer_id IS NOT NULL;
ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE messages FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON messages TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
