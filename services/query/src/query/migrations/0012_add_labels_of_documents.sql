-- Who may find a document: callers that hold one of its labels, everybody if it has none. Those with the
-- highest order are valid.
ALTER TABLE documents
    ADD COLUMN labels text[] NOT NULL DEFAULT '{}',
    ADD COLUMN labels_order bigint NOT NULL DEFAULT 0;

-- A transaction of a call that does not hold all labels names those it holds, each after a comma.
CREATE POLICY labels ON documents AS RESTRICTIVE FOR SELECT TO {service}
    USING (coalesce(current_setting('app.labels', true), '') = '' OR labels = '{}'
        OR labels && string_to_array(current_setting('app.labels', true), ','));

-- Documents whose points may have other labels than they.
CREATE TABLE relabelled_documents (
    tenant_id text NOT NULL,
    document text NOT NULL,
    PRIMARY KEY (tenant_id, document)
);
ALTER TABLE relabelled_documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE relabelled_documents FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON relabelled_documents TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON relabelled_documents FOR SELECT TO {service}_sweeper USING (true);
