-- What members say about messages without writing one: reactions and pins. What a message answers, whom it mentions, and
-- of what each member wants to be notified.

ALTER TABLE messages ADD COLUMN reply_to TEXT;
-- A JSON array of the ids of users.
ALTER TABLE messages ADD COLUMN mentions TEXT;

-- The emojis with which somebody has reacted to a message, so that reading a page of messages does not count reactions.
CREATE TABLE message_emojis (
    message_id TEXT    NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    emoji      TEXT    NOT NULL,
    count      INTEGER NOT NULL CHECK (count > 0),
    first_at   TEXT    NOT NULL,
    PRIMARY KEY (message_id, emoji)
) STRICT, WITHOUT ROWID;

CREATE TABLE message_reactions (
    message_id TEXT NOT NULL,
    emoji      TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    PRIMARY KEY (message_id, emoji, user_id),
    FOREIGN KEY (message_id, emoji) REFERENCES message_emojis (message_id, emoji) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE pins (
    message_id      TEXT NOT NULL PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    conversation_id TEXT NOT NULL,
    pinned_by       TEXT NOT NULL,
    pinned_at       TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX pins_of_conversation ON pins (conversation_id, pinned_at);

-- Who has no row is notified of everything.
CREATE TABLE notification_levels (
    conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id         TEXT NOT NULL,
    level           TEXT NOT NULL CHECK (level IN ('all', 'mentions', 'none')),
    PRIMARY KEY (conversation_id, user_id)
) STRICT, WITHOUT ROWID;

-- A message that is deleted loses its reactions and its pin.
CREATE TRIGGER message_drops_annotations AFTER UPDATE OF deleted_at ON messages
WHEN OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL BEGIN
    DELETE FROM message_emojis WHERE message_id = NEW.id;
    DELETE FROM pins WHERE message_id = NEW.id;
END;
