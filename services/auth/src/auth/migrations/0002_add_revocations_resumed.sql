-- A row without a key id takes the tenant's suspension back where `resumed`.
ALTER TABLE revocations ADD COLUMN resumed boolean NOT NULL DEFAULT false
    CHECK (NOT resumed OR key_id IS NULL);
