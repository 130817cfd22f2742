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

-- Also documents whose points may know another description than the valid one: points know descriptions for filters.
COMMENT ON TABLE relabelled_documents IS 'Documents whose points may know other labels, or another description, than they have.';
