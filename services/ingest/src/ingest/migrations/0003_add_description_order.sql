-- When title and metadata were last changed, in the order of `documents.upload_order`: an earlier upload
-- of the same bytes, handled later, does not bring its own back.
ALTER TABLE versions ADD COLUMN description_order bigint NOT NULL DEFAULT 0;
