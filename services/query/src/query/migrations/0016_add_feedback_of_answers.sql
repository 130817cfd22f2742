-- What the principal that asked thinks of an answer: 'good' or 'bad', and why. The reason is removed with
-- the text of the answer.
ALTER TABLE answers
    ADD COLUMN feedback text,
    ADD COLUMN feedback_reason text NOT NULL DEFAULT '',
    ADD COLUMN feedback_at timestamptz;
