-- Links by which somebody becomes a member of a conversation. What is kept is the hash of a token of 256 random bits.

CREATE TABLE invites (
    token_hash      text        NOT NULL COLLATE "C" PRIMARY KEY,
    conversation_id uuid        NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    created_by      text        NOT NULL COLLATE "C",
    expires_at      timestamptz NOT NULL,
    -- None: as often as there is room for members.
    uses_left       integer
);

CREATE INDEX invites_conversation ON invites (conversation_id);
