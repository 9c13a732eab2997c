-- Links by which somebody becomes a member of a conversation. What is kept is the hash of a token of 256 random bits.
CREATE TABLE invites (
    token_hash      TEXT NOT NULL PRIMARY KEY,
    conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    created_by      TEXT NOT NULL,
    expires_at      TEXT NOT NULL,
    -- None: as often as there is room for members.
    uses_left       INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX invites_conversation ON invites (conversation_id);
