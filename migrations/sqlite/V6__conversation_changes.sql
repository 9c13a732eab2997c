-- How many changes a conversation has had beside its messages: edits, deletions, titles, members. Its
-- revision is last_seq + changes.
ALTER TABLE conversations ADD COLUMN changes INTEGER NOT NULL DEFAULT 0;
