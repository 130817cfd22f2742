-- Whoever gives other labels sends another upload, so nobody changes those of another key's upload.
ALTER TABLE upload_sessions
    DROP CONSTRAINT upload_sessions_tenant_id_document_sha256_size_bytes_key,
    ADD UNIQUE (tenant_id, document, sha256, size_bytes, labels);
