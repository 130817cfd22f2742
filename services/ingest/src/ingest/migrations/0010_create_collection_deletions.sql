-- Deletions of collections with their documents, numbered from 1 in each. Documents with an `upload_order` up to that
-- of the deletion belong to it: whoever locks such a document first, the sweep or a new upload, writes its tombstone.
-- Rows stay: no event from before the deletion can bring a document back. `hidden`: all its documents have their
-- tombstone, and searches find none of them.
CREATE TABLE collection_deletions (
    tenant_id text COLLATE "C" NOT NULL,
    collection_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL CHECK (number > 0),
    upload_order bigint NOT NULL,
    hidden boolean NOT NULL DEFAULT false,
    documents bigint NOT NULL DEFAULT 0,
    receipt jsonb,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, collection_id, number),
    CHECK ((finished_at IS NULL) = (receipt IS NULL)),
    CHECK (hidden OR finished_at IS NULL)
);
CREATE INDEX collection_deletions_open ON collection_deletions (requested_at)
    WHERE finished_at IS NULL;
ALTER TABLE collection_deletions ENABLE ROW LEVEL SECURITY;
ALTER TABLE collection_deletions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON collection_deletions TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
CREATE POLICY sweep ON collection_deletions FOR SELECT TO {service}_sweeper USING (true);

-- The deletion of its collection that a tombstone belongs to, at the version it goes up to; 0: none.
ALTER TABLE versions ADD COLUMN collection_deletion bigint NOT NULL DEFAULT 0;
CREATE INDEX versions_of_deletion ON versions (tenant_id, document) WHERE collection_deletion > 0;
