-- Answers given by another model because the default one was away. Models that write tell no
-- confidence.
ALTER TABLE answers
    ADD COLUMN degraded boolean NOT NULL DEFAULT false,
    ALTER COLUMN confidence DROP NOT NULL;
