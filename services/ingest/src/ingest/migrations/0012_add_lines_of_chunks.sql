-- Where the lines of a chunk stand on the pages of a PDF: 12 bytes a line, see `Chunk.lines`. Chunks
-- from before, and those of other formats, have none.
ALTER TABLE chunks ADD COLUMN lines bytea NOT NULL DEFAULT '';
