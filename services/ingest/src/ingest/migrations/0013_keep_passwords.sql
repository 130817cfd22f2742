-- The password of a document, sealed by the service, from its upload until the version is parsed or ends:
-- the check makes every statement that moves a version on remove it.
ALTER TABLE versions
    ADD COLUMN password bytea,
    ADD CONSTRAINT versions_password CHECK (password IS NULL OR state = 'ACCEPTED');
