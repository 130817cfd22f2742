-- `documents.upload_order` also counts removal events; a row without a version is of a document that was removed by
-- an event before its first upload was handled. `description` is that of the last description event, with its order:
-- an earlier upload that is handled later gets it. A removal clears it, unless it is later than the removal.
ALTER TABLE documents
    ADD COLUMN description_order bigint NOT NULL DEFAULT 0,
    ADD COLUMN description jsonb NOT NULL DEFAULT '{}';

-- The time that a text is in RFC 3339 with a zone, NULL if it is none: filters compare such texts of the metadata.
CREATE FUNCTION read_time(given text) RETURNS timestamptz LANGUAGE plpgsql STABLE STRICT AS $$
BEGIN
    IF given !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-5]):[0-5][0-9])$'
    THEN
        RETURN NULL;
    END IF;
    RETURN given::timestamptz;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
