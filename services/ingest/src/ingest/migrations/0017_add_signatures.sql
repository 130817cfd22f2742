-- Signatures of the texts of versions in collections with the step NEAR_DUPLICATES, see `ingest.signature`: a version has
-- one from its preparation until it is superseded or purged. `bands` are its keys in `signature_bands`, by which others
-- find it; ids ascend, so the oldest are found first.
CREATE TABLE signatures (
    tenant_id text COLLATE "C" NOT NULL,
    document text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    signature_id bigint GENERATED ALWAYS AS IDENTITY,
    signature bytea NOT NULL,
    bands bigint[] NOT NULL,
    PRIMARY KEY (tenant_id, document, version),
    UNIQUE (tenant_id, signature_id)
);
ALTER TABLE signatures ENABLE ROW LEVEL SECURITY;
ALTER TABLE signatures FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON signatures TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));

CREATE TABLE signature_bands (
    tenant_id text COLLATE "C" NOT NULL,
    band bigint NOT NULL,
    signature_id bigint NOT NULL,
    PRIMARY KEY (tenant_id, band, signature_id)
);
ALTER TABLE signature_bands ENABLE ROW LEVEL SECURITY;
ALTER TABLE signature_bands FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON signature_bands TO {service}
    USING (tenant_id = current_setting('app.tenant', true))
    WITH CHECK (tenant_id = current_setting('app.tenant', true));
