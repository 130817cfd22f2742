-- A version that is `kept` is superseded and has its bytes and text; its collection says how many of them
-- each document has.
ALTER TABLE collections ADD COLUMN version_retention integer NOT NULL DEFAULT 0;
ALTER TABLE versions
    ADD COLUMN kept boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT versions_kept_state CHECK (NOT kept OR state = 'SUPERSEDED');
CREATE INDEX versions_kept ON versions (tenant_id, document, version) WHERE kept;

-- A pinned document takes no new version, so that the live one stays live.
ALTER TABLE documents
    ADD COLUMN pinned boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT documents_pinned_version CHECK (
        NOT pinned OR (live_version = latest_version AND live_version > tombstone_version));
