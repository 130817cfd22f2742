-- The embedding profiles that have an index, in one row: searches use the live one; the other is built
-- beside it, or was live before. Whoever stores passages locks the row, so a change of it waits for
-- passages that have points only in the indexes from before the change.
CREATE TABLE profiles_in_use (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    live text NOT NULL,
    live_dimensions integer NOT NULL,
    beside text CHECK (beside <> live),
    beside_dimensions integer,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((beside IS NULL) = (beside_dimensions IS NULL))
);

-- A profile that is no longer in use, and whose store and vectors must still be removed.
ALTER TABLE vector_stores ADD COLUMN dropped boolean NOT NULL DEFAULT false;

-- The profile of `vector`. Passages from before were embedded by the only model there was.
ALTER TABLE passages ADD COLUMN vector_profile text NOT NULL DEFAULT 'minilm-l6-v2';

-- Vectors of passages under a profile other than that of `passages.vector`.
CREATE TABLE passage_vectors (
    tenant_id text NOT NULL,
    point_id uuid NOT NULL,
    profile text NOT NULL,
    vector bytea NOT NULL,
    PRIMARY KEY (tenant_id, point_id, profile),
    FOREIGN KEY (tenant_id, point_id) REFERENCES passages (tenant_id, point_id)
        ON DELETE CASCADE ON UPDATE CASCADE
);
ALTER TABLE passage_vectors ALTER COLUMN vector SET STORAGE EXTERNAL;
ALTER TABLE passage_vectors ENABLE ROW LEVEL SECURITY;
ALTER TABLE passage_vectors FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON passage_vectors TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
