-- What a passage stands under: its headings, outermost first, and the header row of the table that it
-- continues. Passages from before have none.
ALTER TABLE passages
    ADD COLUMN headings jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN table_header text NOT NULL DEFAULT '';
