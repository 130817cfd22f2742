-- How the guardrails of an answer ended; without text.
ALTER TABLE answers ADD COLUMN verdicts jsonb NOT NULL DEFAULT '[]';
-- `ce-id` of the upload event of the version; empty for an upload over gRPC, and for rows from before.
ALTER TABLE passages ADD COLUMN upload_event_id text NOT NULL DEFAULT '';
