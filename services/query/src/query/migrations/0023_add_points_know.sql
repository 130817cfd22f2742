-- Whether the points of a superseded version say since when it is, in every index in use. They are not written
-- again with each later version of its document.
ALTER TABLE superseded_versions ADD COLUMN points_know boolean NOT NULL DEFAULT false;
