-- Documents attached to a conversation, by resource name; they need not exist.
ALTER TABLE conversations ADD COLUMN documents text[] NOT NULL DEFAULT '{}';
