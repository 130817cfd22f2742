-- `documents.upload_order` also counts removal events; a row without a version is of a document that was removed by
-- an event before its first upload was handled. `description` is that of the last description event, with its order:
-- an earlier upload that is handled later gets it. A removal clears it, unless it is later than the removal.
ALTER TABLE documents
    ADD COLUMN description_order bigint NOT NULL DEFAULT 0,
    ADD COLUMN description jsonb NOT NULL DEFAULT '{}';
