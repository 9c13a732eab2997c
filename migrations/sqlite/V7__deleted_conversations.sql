-- A conversation that is deleted is there for nobody. Its row stays for a day, and what belongs to it is
-- removed a little at a time.

ALTER TABLE conversations ADD COLUMN deleted_at TEXT;
ALTER TABLE conversations ADD COLUMN deleted_by TEXT;

-- What is left to be removed.
CREATE INDEX conversations_deleted ON conversations (deleted_at) WHERE deleted_at IS NOT NULL;
