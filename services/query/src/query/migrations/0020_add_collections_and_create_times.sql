-- Collections of a conversation besides `collection`, by id.
ALTER TABLE conversations ADD COLUMN collections text[] NOT NULL DEFAULT '{}';

-- When the version was accepted; NULL for versions from before, until they are described again.
ALTER TABLE descriptions ADD COLUMN created_at timestamptz;
