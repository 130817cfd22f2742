-- Names of the steps that a collection has turned on, in the order in which they run.
ALTER TABLE collections ADD COLUMN steps text[] NOT NULL DEFAULT '{}';
