-- What an answer was asked with, as JSON: it is only read together with its answer.
ALTER TABLE answers ADD COLUMN settings jsonb NOT NULL DEFAULT '{}';

-- The order of exports, of a tenant and of a principal.
CREATE INDEX answers_stored ON answers (tenant_id, created_at, answer_id);
CREATE INDEX answers_of_principal ON answers (tenant_id, principal, created_at, answer_id);

-- The sweep sees which tenants have any, and no text.
REVOKE SELECT, INSERT, UPDATE, DELETE ON answers, conversations FROM {service}_sweeper;
GRANT SELECT (tenant_id) ON answers, conversations TO {service}_sweeper;
CREATE POLICY sweep ON answers FOR SELECT TO {service}_sweeper USING (true);
CREATE POLICY sweep ON conversations FOR SELECT TO {service}_sweeper USING (true);
