-- `interactive`: someone waits for the effect of the event, so it is released before the others.
ALTER TABLE outbox ADD COLUMN interactive boolean NOT NULL DEFAULT false;
CREATE INDEX outbox_turn_in_lane ON outbox (event, interactive, tenant_id, place);
DROP INDEX outbox_turn;
