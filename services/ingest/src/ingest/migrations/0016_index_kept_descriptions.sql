-- Kept descriptions, see 0014: they are removed when no upload from before them can still be handled.
CREATE INDEX documents_described ON documents (tenant_id, description_order) WHERE description <> '{}';
