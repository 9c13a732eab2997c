-- The tables and triggers of the store. PostgreSQL has the same tables, and others with which several
-- servers share one database.
--
-- Times are RFC 3339 in UTC with milliseconds, so that they sort as text. Ids are lower-case UUIDs.

-- The schema itself --------------------------------------------------------------------------------

-- One row.
CREATE TABLE roomcast_schema (
    only_row INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    -- Identifies the database. Positions in another database are recognised by it.
    store_id TEXT    NOT NULL DEFAULT (lower(hex(randomblob(16))))
) STRICT;

INSERT INTO roomcast_schema DEFAULT VALUES;

-- Conversations and messages -----------------------------------------------------------------------

CREATE TABLE conversations (
    id         TEXT    NOT NULL PRIMARY KEY,
    title      TEXT,
    owner_id   TEXT,
    -- The seq of the newest message, or 0. The next message takes last_seq + 1.
    last_seq   INTEGER NOT NULL DEFAULT 0,
    -- 1: every user counts as a member.
    is_open    INTEGER NOT NULL DEFAULT 0 CHECK (is_open IN (0, 1)),
    created_at TEXT    NOT NULL,
    -- When the title or the members last changed. A new message does not change it.
    updated_at TEXT    NOT NULL,
    -- The number of changes other than new messages: edits, deletions, titles, members. The revision
    -- of the conversation is last_seq + changes.
    changes    INTEGER NOT NULL DEFAULT 0,
    -- The row of a deleted conversation stays for a day. Its messages are removed in steps.
    deleted_at TEXT,
    deleted_by TEXT
) STRICT;

CREATE INDEX conversations_open ON conversations (id) WHERE is_open;

-- The conversations whose messages are to be removed.
CREATE INDEX conversations_deleted ON conversations (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE members (
    conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id         TEXT NOT NULL,
    joined_at       TEXT NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
) STRICT, WITHOUT ROWID;

-- The conversations of a user.
CREATE INDEX members_of_user ON members (user_id);

CREATE TABLE messages (
    -- Never changes: the search index refers to it.
    number            INTEGER NOT NULL PRIMARY KEY,
    id                TEXT    NOT NULL UNIQUE,
    conversation_id   TEXT    NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    seq               INTEGER NOT NULL CHECK (seq > 0),
    user_id           TEXT    NOT NULL,
    user_name         TEXT    NOT NULL,
    content           TEXT    NOT NULL,
    type              TEXT    NOT NULL CHECK (type IN ('user', 'ai')),
    -- A JSON object, byte for byte as the client sent it.
    metadata          TEXT    NOT NULL,
    client_message_id TEXT,
    version           INTEGER NOT NULL DEFAULT 1,
    created_at        TEXT    NOT NULL,
    edited_at         TEXT,
    deleted_at        TEXT,
    reply_to          TEXT,
    -- A JSON array of user ids.
    mentions          TEXT,
    -- Why a streamed message ended before its author finished it; '' if its author vanished.
    interrupted       TEXT
) STRICT;

-- Serves pages of the history, and prevents duplicate seqs.
CREATE UNIQUE INDEX messages_in_order ON messages (conversation_id, seq);

-- Finds a repeated message, so that it is stored once.
CREATE UNIQUE INDEX messages_sent_once ON messages (user_id, client_message_id)
    WHERE client_message_id IS NOT NULL;

-- The words of each text: runs of letters and digits, in lower case. Triggers update it.
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

-- Messages whose text still grows. The text moves to the message when it ends.
CREATE TABLE message_streams (
    message_id      TEXT    NOT NULL PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    conversation_id TEXT    NOT NULL,
    user_id         TEXT    NOT NULL,
    -- Identifies who extends the text: one stream of the server.
    holder          TEXT    NOT NULL,
    text            TEXT    NOT NULL,
    -- The number of characters of the text.
    chars           INTEGER NOT NULL,
    -- When text was stored last. A message that stands still is ended.
    touched_at      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX message_streams_in_conversation ON message_streams (conversation_id);
CREATE INDEX message_streams_of_user ON message_streams (user_id);
CREATE INDEX message_streams_by_age ON message_streams (touched_at);

-- Earlier contents of edited messages, and the last content of deleted messages.
CREATE TABLE message_versions (
    message_id  TEXT    NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    version     INTEGER NOT NULL,
    content     TEXT    NOT NULL,
    metadata    TEXT    NOT NULL,
    replaced_at TEXT    NOT NULL,
    replaced_by TEXT    NOT NULL,
    PRIMARY KEY (message_id, version)
) STRICT, WITHOUT ROWID;

-- The seq up to which a user has read a conversation. It never decreases.
CREATE TABLE reads (
    conversation_id TEXT    NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id         TEXT    NOT NULL,
    seq             INTEGER NOT NULL CHECK (seq >= 0),
    PRIMARY KEY (conversation_id, user_id)
) STRICT, WITHOUT ROWID;

-- A user that joins a conversation receives the furthest read marks: the first one or two entries
-- of this index.
CREATE INDEX reads_by_seq ON reads (conversation_id, seq);

-- Invitation links: the user with the link becomes a member of the conversation. The token has 256
-- random bits, and only its hash is stored.
CREATE TABLE invites (
    token_hash      TEXT NOT NULL PRIMARY KEY,
    conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    created_by      TEXT NOT NULL,
    expires_at      TEXT NOT NULL,
    -- Null: no limit.
    uses_left       INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX invites_conversation ON invites (conversation_id);

-- Reactions, pins and notification levels ----------------------------------------------------------

-- The number of reactions with each emoji, so that a page of messages does not count them.
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

-- A deleted message loses its reactions and its pin.
CREATE TRIGGER message_drops_annotations AFTER UPDATE OF deleted_at ON messages
WHEN OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL BEGIN
    DELETE FROM message_emojis WHERE message_id = NEW.id;
    DELETE FROM pins WHERE message_id = NEW.id;
END;

-- The level that a member has chosen. Without a row the level is 'all'.
CREATE TABLE notification_levels (
    conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id         TEXT NOT NULL,
    level           TEXT NOT NULL CHECK (level IN ('all', 'mentions', 'none')),
    PRIMARY KEY (conversation_id, user_id)
) STRICT, WITHOUT ROWID;

-- The statuses that users set.
CREATE TABLE user_statuses (
    user_id    TEXT NOT NULL PRIMARY KEY,
    status     TEXT NOT NULL CHECK (status IN ('online', 'away', 'busy', 'offline')),
    text       TEXT,
    -- Each change of a user has a later time than the one before.
    set_at     TEXT NOT NULL,
    expires_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Finds expired statuses, which are removed.
CREATE INDEX user_statuses_by_end ON user_statuses (expires_at);

-- Logins, revocations and blocks -------------------------------------------------------------------

CREATE TABLE sessions (
    -- SHA-256 of the id in hexadecimal digits. The id itself is not stored.
    id_hash    TEXT    NOT NULL PRIMARY KEY,
    user_id    TEXT    NOT NULL,
    -- A JSON array of texts.
    roles      TEXT    NOT NULL,
    -- A JSON object, or null.
    data       TEXT,
    -- The lifetime of an unused session.
    ttl_s      INTEGER NOT NULL CHECK (ttl_s > 0),
    created_at TEXT    NOT NULL,
    expires_at TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- The sessions of a user.
CREATE INDEX sessions_of_user ON sessions (user_id);

-- Finds expired sessions, which are removed.
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- Credentials that were revoked before they expired.
CREATE TABLE revocations (
    kind       TEXT    NOT NULL CHECK (kind IN ('token', 'session', 'user', 'role')),
    -- The jti, the hash of the session's id, the user's id, or the role.
    value      TEXT    NOT NULL,
    until      TEXT    NOT NULL,
    created_at TEXT    NOT NULL,
    PRIMARY KEY (kind, value)
) STRICT, WITHOUT ROWID;

-- Blocked networks, except those of the configuration.
CREATE TABLE blocks (
    id         TEXT NOT NULL PRIMARY KEY,
    cidr       TEXT NOT NULL UNIQUE,
    reason     TEXT NOT NULL,
    source     TEXT NOT NULL CHECK (source IN ('admin', 'automatic')),
    created_at TEXT NOT NULL,
    -- Null: permanent.
    expires_at TEXT
) STRICT, WITHOUT ROWID;

-- Journals: trades, signals, portfolios, prices and notifications ----------------------------------

-- A journal is one subject, such as the trades of one user. Each of its entries has the next
-- revision.
CREATE TABLE journals (
    name     TEXT    NOT NULL PRIMARY KEY,
    -- The revision of the last entry. It never decreases, even if entries are removed.
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE journal_entries (
    journal    TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    -- The subject of the entry. Of all entries of a key, the last is current.
    key        TEXT    NOT NULL,
    -- JSON, as the server wrote it.
    body       TEXT    NOT NULL,
    -- A part of the journal that is also read separately, such as a channel of signals.
    category   TEXT,
    -- Whether another entry of the key may follow. A closed entry is final.
    is_open    INTEGER NOT NULL,
    is_current INTEGER NOT NULL DEFAULT 1,
    created_at TEXT    NOT NULL,
    expires_at TEXT,
    PRIMARY KEY (journal, revision)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX journal_entries_current ON journal_entries (journal, key) WHERE is_current;

-- The newest entries of a category.
CREATE INDEX journal_entries_by_category ON journal_entries (journal, category, revision)
    WHERE is_current AND category IS NOT NULL;

CREATE INDEX journal_entries_open ON journal_entries (journal, revision) WHERE is_current AND is_open;

-- Entries that are removed after some time.
CREATE INDEX journal_entries_replaced ON journal_entries (created_at) WHERE NOT is_current;
CREATE INDEX journal_entries_closed ON journal_entries (created_at) WHERE is_current AND NOT is_open;
CREATE INDEX journal_entries_by_end ON journal_entries (expires_at) WHERE expires_at IS NOT NULL;

-- Webhooks and the HTTP API ------------------------------------------------------------------------

-- Webhook deliveries that are due or repeated.
CREATE TABLE webhook_deliveries (
    id         TEXT    NOT NULL PRIMARY KEY,
    -- JSON, as it is sent.
    body       TEXT    NOT NULL,
    created_at TEXT    NOT NULL,
    -- When the server may claim the delivery. Claiming moves this time beyond the duration of a
    -- request.
    due_at     TEXT    NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX webhook_deliveries_due_at ON webhook_deliveries (due_at, id);

-- API requests with an idempotency key, and their responses, so that a repeated request is not
-- executed again.
CREATE TABLE api_keys (
    -- A hash of the caller and the key.
    key          TEXT NOT NULL PRIMARY KEY,
    -- A hash of the request.
    request      TEXT NOT NULL,
    -- Distinguishes attempts under one key.
    attempt      TEXT NOT NULL,
    -- Until when an attempt without a response counts as running.
    locked_until TEXT NOT NULL,
    expires_at   TEXT NOT NULL,
    status       INTEGER,
    -- Null: the body is not stored.
    body         TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX api_keys_expires_at ON api_keys (expires_at);

-- The audit log ------------------------------------------------------------------------------------

-- Each administrative act, with the actor and what it changed. The server inserts the row before the
-- act, and sets the outcome after it. If a row has no outcome, the server stopped in between.
CREATE TABLE audit (
    -- Version 7: the order of the ids is the order of time.
    id            TEXT NOT NULL PRIMARY KEY,
    created_at    TEXT NOT NULL,
    node          TEXT NOT NULL,
    -- `http`, `socket` or `command`.
    via           TEXT NOT NULL,
    -- The user whose credentials the server has checked. Null for commands on the database.
    user_id       TEXT,
    -- The name that the command line states, without proof.
    stated_user   TEXT,
    address       TEXT,
    connection_id TEXT,
    operation     TEXT NOT NULL,
    target        TEXT,
    -- JSON objects without secrets and message texts.
    request       TEXT,
    state_before  TEXT,
    state_after   TEXT,
    outcome       TEXT,
    finished_at   TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_by_user ON audit (user_id, id);
