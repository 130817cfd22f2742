-- The vector of a passage's point, little-endian 32-bit floats; a lost vector store is filled from it.
-- Passages from before have none and are embedded again. It is kept out of line where the row is long,
-- uncompressed because floats do not shrink.
ALTER TABLE passages ADD COLUMN vector bytea;
ALTER TABLE passages ALTER COLUMN vector SET STORAGE EXTERNAL;
