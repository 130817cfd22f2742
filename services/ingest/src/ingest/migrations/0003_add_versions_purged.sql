-- What a purge removes outside of the database, noted before the transaction that ends it: the receipt
-- adds these up, so it tells also what attempts removed that were broken off. Dead letters are kept by
-- document and stand at the version the delete goes up to.
ALTER TABLE versions
    ADD COLUMN object_purged boolean NOT NULL DEFAULT false,
    ADD COLUMN dead_letters_purged bigint NOT NULL DEFAULT 0;
