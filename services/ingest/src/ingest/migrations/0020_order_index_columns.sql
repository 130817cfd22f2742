-- For a tenant that it has no statistics of, the planner expects one row by any index that begins with
-- the tenant, and then reads all versions of the tenant to find one by its key. So only the primary key
-- begins with the tenant; conditions on state and tenant are served in either order.
DROP INDEX versions_state;
CREATE INDEX versions_state ON versions (state, tenant_id, document);

-- Documents of one collection with the same bytes. A range of document names would also fit the primary
-- key, which the planner then preferred: every check read the whole collection.
DROP INDEX versions_content;
CREATE INDEX versions_content ON versions (tenant_id, sha256, split_part(document, '/', 2), document)
    WHERE state IN ('ACCEPTED', 'PREPARED', 'INDEXED');
