-- The access labels that a key holds; NULL: all, as every key from before.
ALTER TABLE keys ADD COLUMN labels text[];
