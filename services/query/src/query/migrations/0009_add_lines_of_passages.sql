-- Where the lines of a passage stand on the pages of a PDF: 12 bytes a line, see `Chunk.lines`.
-- Passages from before, and those of other formats, have none.
ALTER TABLE passages ADD COLUMN lines bytea NOT NULL DEFAULT '';
