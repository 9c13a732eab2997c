-- Editing, deleting, reading, searching, and who is where.

-- Rows get a number that never changes, which the search index refers to.
CREATE TABLE numbered_messages (
    number            INTEGER NOT NULL PRIMARY KEY,
    id                TEXT    NOT NULL UNIQUE,
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

INSERT INTO numbered_messages (id, conversation_id, seq, user_id, user_name, content, type, metadata,
        client_message_id, version, created_at, edited_at, deleted_at)
    SELECT id, conversation_id, seq, user_id, user_name, content, type, metadata,
        client_message_id, version, created_at, edited_at, deleted_at
    FROM messages ORDER BY id;

DROP TABLE messages;
ALTER TABLE numbered_messages RENAME TO messages;

-- History pages read along this index; it also keeps seq free of doubles.
CREATE UNIQUE INDEX messages_in_order ON messages (conversation_id, seq);

-- A message sent again is found here and not stored twice.
CREATE UNIQUE INDEX messages_sent_once ON messages (user_id, client_message_id)
    WHERE client_message_id IS NOT NULL;

-- The words of every text: runs of letters and digits, in lower case. The triggers keep it true.
CREATE VIRTUAL TABLE messages_by_word USING fts5 (
    content, content = 'messages', content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 0'
);

CREATE TRIGGER message_inserted AFTER INSERT ON messages BEGIN
    INSERT INTO messages_by_word (rowid, content) VALUES (NEW.number, NEW.content);
END;

CREATE TRIGGER message_removed AFTER DELETE ON messages BEGIN
    INSERT INTO messages_by_word (messages_by_word, rowid, content) VALUES ('delete', OLD.number, OLD.content);
END;

CREATE TRIGGER message_changed AFTER UPDATE OF content ON messages BEGIN
    INSERT INTO messages_by_word (messages_by_word, rowid, content) VALUES ('delete', OLD.number, OLD.content);
    INSERT INTO messages_by_word (rowid, content) VALUES (NEW.number, NEW.content);
END;

INSERT INTO messages_by_word (messages_by_word) VALUES ('rebuild');

-- The conversations that everybody has.
CREATE INDEX conversations_open ON conversations (id) WHERE is_open;

-- What a message was before it was edited or deleted.
CREATE TABLE message_versions (
    message_id  TEXT    NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    version     INTEGER NOT NULL,
    content     TEXT    NOT NULL,
    metadata    TEXT    NOT NULL,
    replaced_at TEXT    NOT NULL,
    replaced_by TEXT    NOT NULL,
    PRIMARY KEY (message_id, version)
) STRICT, WITHOUT ROWID;

-- Up to where a user has read a conversation; it only grows.
CREATE TABLE reads (
    conversation_id TEXT    NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id         TEXT    NOT NULL,
    seq             INTEGER NOT NULL CHECK (seq >= 0),
    PRIMARY KEY (conversation_id, user_id)
) STRICT, WITHOUT ROWID;
