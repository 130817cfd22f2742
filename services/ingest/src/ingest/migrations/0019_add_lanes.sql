-- Whether someone waits for a document (INTERACTIVE), or it is one of many (BULK).
ALTER TABLE versions
    ADD COLUMN lane text NOT NULL DEFAULT 'BULK' CHECK (lane IN ('INTERACTIVE', 'BULK'));
ALTER TABLE upload_sessions
    ADD COLUMN lane text NOT NULL DEFAULT 'INTERACTIVE' CHECK (lane IN ('INTERACTIVE', 'BULK'));
