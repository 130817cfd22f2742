-- Chunks make up the whole text of a version: `gap` is the white space that stands before a chunk, from
-- the end of the chunk before it. It is empty for chunks from before this migration, whose gaps are read
-- as blanks, so that offsets are right.
ALTER TABLE chunks ADD COLUMN gap text NOT NULL DEFAULT '';

-- What had to be guessed or repaired to read a version: `[code, detail]` of each note.
ALTER TABLE versions ADD COLUMN notes jsonb NOT NULL DEFAULT '[]';
