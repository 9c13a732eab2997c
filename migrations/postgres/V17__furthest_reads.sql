-- Who joins a conversation is told how far others have read it: the first one or two entries of this index say that, however many
-- have read.
CREATE INDEX reads_by_seq ON reads (conversation_id, seq);
