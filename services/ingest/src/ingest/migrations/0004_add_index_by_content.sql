-- Finds documents with the same bytes: only versions that an upload can repeat.
CREATE INDEX versions_content ON versions (tenant_id, sha256, document)
    WHERE state IN ('ACCEPTED', 'PREPARED', 'INDEXED');
