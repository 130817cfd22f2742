-- With `resumed`, a row without a key id ends the tenant's suspension.
ALTER TABLE revocations ADD COLUMN resumed boolean NOT NULL DEFAULT false
    CHECK (NOT resumed OR key_id IS NULL);
