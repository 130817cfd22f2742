-- Who may see a document: callers that hold one of its labels, everybody if it has none. They are its
-- own, or follow those of its collection. `labels_order` is when they were given, in the order of
-- `upload_order`: those with the highest are valid. `labels_due_at` is set while query has not confirmed
-- them.
ALTER TABLE collections ADD COLUMN access_labels text[] NOT NULL DEFAULT '{}';
ALTER TABLE documents
    ADD COLUMN labels text[] NOT NULL DEFAULT '{}',
    ADD COLUMN own_labels boolean NOT NULL DEFAULT false,
    ADD COLUMN labels_order bigint NOT NULL DEFAULT 0,
    ADD COLUMN labels_due_at timestamptz;
CREATE INDEX documents_labels_due ON documents (labels_due_at) WHERE labels_due_at IS NOT NULL;
ALTER TABLE upload_sessions ADD COLUMN labels text[] NOT NULL DEFAULT '{}';

-- A transaction of a call that does not hold all labels names those it holds, each after a comma. For it
-- other documents do not exist: every statement of a call finds a document by its row here.
CREATE POLICY labels ON documents AS RESTRICTIVE FOR SELECT TO {service}
    USING (coalesce(current_setting('app.labels', true), '') = '' OR labels = '{}'
        OR labels && string_to_array(current_setting('app.labels', true), ','));
CREATE POLICY sweep ON documents FOR SELECT TO {service}_sweeper USING (labels_due_at IS NOT NULL);
