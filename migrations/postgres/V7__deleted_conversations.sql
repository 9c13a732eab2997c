-- A conversation that is deleted is there for nobody. Its row stays for a day, and what belongs to it is
-- removed a little at a time. It has no members from the start, so that servers of the version before, which
-- do not know of the columns, show it to nobody either.

ALTER TABLE conversations ADD COLUMN deleted_at timestamptz;
ALTER TABLE conversations ADD COLUMN deleted_by text;

-- What is left to be removed.
CREATE INDEX conversations_deleted ON conversations (deleted_at) WHERE deleted_at IS NOT NULL;
