-- `description_order`: when title and metadata were last changed, in the order of
-- `documents.upload_order`: an earlier upload of the same bytes, handled later, does not bring its own
-- back. `description_due_at` is set while query has not confirmed the description, and says when that is
-- doubted.
ALTER TABLE versions
    ADD COLUMN description_order bigint NOT NULL DEFAULT 0,
    ADD COLUMN description_attempt integer NOT NULL DEFAULT 0,
    ADD COLUMN description_due_at timestamptz;
CREATE INDEX versions_undescribed ON versions (description_due_at)
    WHERE description_due_at IS NOT NULL;
