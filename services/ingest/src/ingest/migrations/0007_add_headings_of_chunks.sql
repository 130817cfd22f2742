-- What a chunk stands under: its headings, outermost first, and the header row of the table that it
-- continues. Chunks from before have none.
ALTER TABLE chunks
    ADD COLUMN headings jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN table_header text NOT NULL DEFAULT '';
