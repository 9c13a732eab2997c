-- Conversations, their members and their messages.
-- Times are RFC 3339 UTC with milliseconds, so that they sort as text; ids are lower-case UUIDs.

CREATE TABLE conversations (
    id         TEXT    NOT NULL PRIMARY KEY,
    title      TEXT,
    owner_id   TEXT,
    -- The seq of the newest message; 0 while there is none. The next message takes last_seq + 1.
    last_seq   INTEGER NOT NULL DEFAULT 0,
    -- 1: everyone counts as a member.
    is_open    INTEGER NOT NULL DEFAULT 0 CHECK (is_open IN (0, 1)),
    created_at TEXT    NOT NULL,
    -- When the title or the members last changed, not when the last message came.
    updated_at TEXT    NOT NULL
) STRICT;

CREATE TABLE members (
    conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id         TEXT NOT NULL,
    joined_at       TEXT NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
) STRICT, WITHOUT ROWID;

-- A user's conversations.
CREATE INDEX members_of_user ON members (user_id);

CREATE TABLE messages (
    id                TEXT    NOT NULL PRIMARY KEY,
    conversation_id   TEXT    NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    seq               INTEGER NOT NULL CHECK (seq > 0),
    user_id           TEXT    NOT NULL,
    user_name         TEXT    NOT NULL,
    content           TEXT    NOT NULL,
    type              TEXT    NOT NULL CHECK (type IN ('user', 'ai')),
    -- A JSON object, byte for byte as it was sent.
    metadata          TEXT    NOT NULL,
    client_message_id TEXT,
    version           INTEGER NOT NULL DEFAULT 1,
    created_at        TEXT    NOT NULL,
    edited_at         TEXT,
    deleted_at        TEXT
) STRICT;

-- History pages read along this index; it also keeps seq free of doubles.
CREATE UNIQUE INDEX messages_in_order ON messages (conversation_id, seq);

-- A message sent again is found here and not stored twice.
CREATE UNIQUE INDEX messages_sent_once ON messages (user_id, client_message_id)
    WHERE client_message_id IS NOT NULL;
