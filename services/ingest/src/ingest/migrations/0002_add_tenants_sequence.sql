-- Number of the suspension or resumption that `suspended` is of; 0 before there was one. Facts come
-- in any order, and the highest holds.
ALTER TABLE tenants ADD COLUMN sequence bigint NOT NULL DEFAULT 0;
