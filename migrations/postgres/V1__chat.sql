-- Conversations, their members and their messages: the same tables as in SQLite.
-- Texts that are compared or sorted have the collation "C", so that order does not depend on the
-- cluster's locale.

CREATE TABLE conversations (
    id         uuid        NOT NULL PRIMARY KEY,
    title      text,
    owner_id   text,
    -- The seq of the newest message; 0 while there is none. The next message takes last_seq + 1,
    -- under this row's lock.
    last_seq   bigint      NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    -- Everyone counts as a member.
    is_open    boolean     NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    -- When the title or the members last changed, not when the last message came.
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 50); -- last_seq changes with every message: room to do that in place.

-- The conversations that everybody has.
CREATE INDEX conversations_open ON conversations (id) WHERE is_open;

CREATE TABLE members (
    conversation_id uuid        NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id         text        NOT NULL COLLATE "C",
    joined_at       timestamptz NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
);

-- A user's conversations.
CREATE INDEX members_of_user ON members (user_id);

CREATE TABLE messages (
    -- Version 7: ids ascend with the time of storing, so new rows and retention stay at the ends.
    id                uuid        NOT NULL PRIMARY KEY,
    conversation_id   uuid        NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    seq               bigint      NOT NULL CHECK (seq > 0),
    user_id           text        NOT NULL COLLATE "C",
    user_name         text        NOT NULL,
    content           text        NOT NULL,
    type              text        NOT NULL CHECK (type IN ('user', 'ai')),
    -- A JSON object, byte for byte as it was sent.
    metadata          text        NOT NULL,
    client_message_id text        COLLATE "C",
    version           integer     NOT NULL DEFAULT 1,
    created_at        timestamptz NOT NULL,
    edited_at         timestamptz,
    deleted_at        timestamptz
);

-- History pages read along this index; it also keeps seq free of doubles.
CREATE UNIQUE INDEX messages_in_order ON messages (conversation_id, seq);

-- A message sent again is found here and not stored twice.
CREATE UNIQUE INDEX messages_sent_once ON messages (user_id, client_message_id)
    WHERE client_message_id IS NOT NULL;

-- The words of a text: runs of letters and digits, in lower case. The query is cut the same way.
CREATE FUNCTION roomcast_words(content text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT to_tsvector('pg_catalog.simple', regexp_replace(lower(content), '[^[:alnum:]]+', ' ', 'g')) $$;

CREATE INDEX messages_by_word ON messages USING gin (roomcast_words(content));

-- What a message was before it was edited or deleted.
CREATE TABLE message_versions (
    message_id  uuid        NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    version     integer     NOT NULL,
    content     text        NOT NULL,
    metadata    text        NOT NULL,
    replaced_at timestamptz NOT NULL,
    replaced_by text        NOT NULL,
    PRIMARY KEY (message_id, version)
);

-- Up to where a user has read a conversation; it only grows.
CREATE TABLE reads (
    conversation_id uuid   NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id         text   NOT NULL COLLATE "C",
    seq             bigint NOT NULL CHECK (seq >= 0),
    PRIMARY KEY (conversation_id, user_id)
);

-- The servers that work on these tables; one that does not renew its lease is dead.
CREATE TABLE nodes (
    id         uuid        NOT NULL PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

-- Who is in which conversation, as each server sees it. Gone with the server's lease.
CREATE TABLE presences (
    node_id         uuid        NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    conversation_id uuid        NOT NULL,
    user_id         text        NOT NULL COLLATE "C",
    name            text        NOT NULL,
    connections     integer     NOT NULL CHECK (connections > 0),
    since           timestamptz NOT NULL,
    PRIMARY KEY (node_id, conversation_id, user_id)
);

CREATE INDEX presences_of_conversation ON presences (conversation_id);

-- One row: the oldest version of the tables that a server may have been made for and still work on
-- these. A migration that old servers cannot live with raises it.
CREATE TABLE roomcast_schema (
    only_row boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    oldest   integer NOT NULL
);

INSERT INTO roomcast_schema (oldest) VALUES (1);
