-- The tables, functions and triggers of the store. SQLite has the same tables, except those with
-- which several servers share one database.
--
-- Texts that are compared or sorted have the collation "C", so their order does not depend on the
-- locale of the database.

-- Functions with `SET search_path FROM CURRENT` store this path. They find their tables in this
-- schema, whatever the caller's path is, and no temporary object hides a table.
SELECT pg_catalog.set_config('search_path', pg_catalog.quote_ident(current_schema()::text) || ', pg_temp', true);

-- The schema itself --------------------------------------------------------------------------------

-- One row.
CREATE TABLE roomcast_schema (
    only_row boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    -- The oldest version of the tables whose servers can use these tables. A migration that older
    -- servers cannot use raises it.
    oldest   integer NOT NULL,
    -- Identifies the database. Servers that an adapter connects ignore servers of another store.
    store_id uuid    NOT NULL DEFAULT gen_random_uuid()
);

INSERT INTO roomcast_schema (oldest) VALUES (1);

-- Conversations and messages -----------------------------------------------------------------------

CREATE TABLE conversations (
    id         uuid        NOT NULL PRIMARY KEY,
    title      text,
    owner_id   text,
    -- The seq of the newest message, or 0. The next message takes last_seq + 1 under the lock of
    -- this row.
    last_seq   bigint      NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    -- Every user counts as a member.
    is_open    boolean     NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    -- When the title or the members last changed. A new message does not change it.
    updated_at timestamptz NOT NULL,
    -- The number of the last row in conversation_changes. The revision of the conversation is
    -- last_seq + changes.
    changes    bigint      NOT NULL DEFAULT 0,
    -- The row of a deleted conversation stays for a day. Its messages are removed in steps.
    deleted_at timestamptz,
    deleted_by text
) WITH (fillfactor = 50); -- Each message updates last_seq: the free space permits updates in place.

CREATE INDEX conversations_open ON conversations (id) WHERE is_open;

-- The conversations whose messages are to be removed.
CREATE INDEX conversations_deleted ON conversations (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE members (
    conversation_id uuid        NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id         text        NOT NULL COLLATE "C",
    joined_at       timestamptz NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
);

-- The conversations of a user.
CREATE INDEX members_of_user ON members (user_id);

CREATE TABLE messages (
    -- Version 7: ids ascend with the time of storing, so inserts and retention use the ends of the
    -- index.
    id                uuid        NOT NULL PRIMARY KEY,
    conversation_id   uuid        NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    seq               bigint      NOT NULL CHECK (seq > 0),
    user_id           text        NOT NULL COLLATE "C",
    user_name         text        NOT NULL,
    content           text        NOT NULL,
    type              text        NOT NULL CHECK (type IN ('user', 'ai')),
    -- A JSON object, byte for byte as the client sent it.
    metadata          text        NOT NULL,
    client_message_id text        COLLATE "C",
    version           integer     NOT NULL DEFAULT 1,
    created_at        timestamptz NOT NULL,
    edited_at         timestamptz,
    deleted_at        timestamptz,
    reply_to          uuid,
    -- A JSON array of user ids.
    mentions          text,
    -- Why a streamed message ended before its author finished it; '' if its author vanished.
    interrupted       text
);

-- Serves pages of the history, and prevents duplicate seqs.
CREATE UNIQUE INDEX messages_in_order ON messages (conversation_id, seq);

-- Finds a repeated message, so that it is stored once.
CREATE UNIQUE INDEX messages_sent_once ON messages (user_id, client_message_id)
    WHERE client_message_id IS NOT NULL;

-- Returns the words of a text: runs of letters and digits, in lower case. Queries are split in the
-- same way.
CREATE FUNCTION roomcast_words(content text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT to_tsvector('pg_catalog.simple', regexp_replace(lower(content), '[^[:alnum:]]+', ' ', 'g')) $$;

-- The transaction that fills the list of pending words sorts them into the index. With the default
-- of 4 MiB that blocks a write worker for half a second, so the list is shorter (in KiB).
CREATE INDEX messages_by_word ON messages USING gin (roomcast_words(content))
    WITH (gin_pending_list_limit = 512);

-- Messages whose text still grows. The text moves to the message when it ends.
CREATE TABLE message_streams (
    message_id      uuid        NOT NULL PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    conversation_id uuid        NOT NULL,
    user_id         text        NOT NULL COLLATE "C",
    -- Identifies who extends the text: one server, until the author goes on at another.
    holder          uuid        NOT NULL,
    text            text        NOT NULL,
    -- The number of characters of the text.
    chars           bigint      NOT NULL,
    -- When text was stored last. Any server ends a message that stands still.
    touched_at      timestamptz NOT NULL
);

CREATE INDEX message_streams_in_conversation ON message_streams (conversation_id);
CREATE INDEX message_streams_of_user ON message_streams (user_id);
CREATE INDEX message_streams_by_age ON message_streams (touched_at);

-- Earlier contents of edited messages, and the last content of deleted messages.
CREATE TABLE message_versions (
    message_id  uuid        NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    version     integer     NOT NULL,
    content     text        NOT NULL,
    metadata    text        NOT NULL,
    replaced_at timestamptz NOT NULL,
    replaced_by text        NOT NULL,
    PRIMARY KEY (message_id, version)
);

-- The seq up to which a user has read a conversation. It never decreases.
CREATE TABLE reads (
    conversation_id uuid   NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id         text   NOT NULL COLLATE "C",
    seq             bigint NOT NULL CHECK (seq >= 0),
    PRIMARY KEY (conversation_id, user_id)
);

-- A user that joins a conversation receives the furthest read marks: the first one or two entries
-- of this index.
CREATE INDEX reads_by_seq ON reads (conversation_id, seq);

-- The changes of a conversation other than new messages, for the servers. Triggers write the rows,
-- whichever program changes the tables. The newest thousand of a conversation are kept.
CREATE TABLE conversation_changes (
    conversation_id uuid        NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    -- 1, 2, 3, … in each conversation, in the order of the commits.
    number          bigint      NOT NULL CHECK (number > 0),
    -- The seq of the last message before the change.
    seq             bigint      NOT NULL CHECK (seq >= 0),
    kind            text        NOT NULL
        CHECK (kind IN ('edited', 'deleted', 'renamed', 'added', 'removed', 'closed', 'annotated')),
    -- The changed message, and its version after the change.
    message_id      uuid,
    version         integer,
    -- The member, or the user who deleted the message or the conversation.
    user_id         text        COLLATE "C",
    changed_at      timestamptz NOT NULL DEFAULT now(),
    -- The members of a conversation when it was deleted.
    member_ids      text[]      COLLATE "C",
    -- What members receive of a reaction or a pin.
    detail          text,
    PRIMARY KEY (conversation_id, number)
);

-- Finds old rows, which are removed.
CREATE INDEX conversation_changes_by_time ON conversation_changes (changed_at);

-- Invitation links: the user with the link becomes a member of the conversation. The token has 256
-- random bits, and only its hash is stored.
CREATE TABLE invites (
    token_hash      text        NOT NULL COLLATE "C" PRIMARY KEY,
    conversation_id uuid        NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    created_by      text        NOT NULL COLLATE "C",
    expires_at      timestamptz NOT NULL,
    -- Null: no limit.
    uses_left       integer
);

CREATE INDEX invites_conversation ON invites (conversation_id);

-- Reactions, pins and notification levels ----------------------------------------------------------

-- The number of reactions with each emoji, so that a page of messages does not count them.
CREATE TABLE message_emojis (
    message_id uuid        NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    emoji      text        NOT NULL COLLATE "C",
    count      bigint      NOT NULL CHECK (count > 0),
    first_at   timestamptz NOT NULL,
    PRIMARY KEY (message_id, emoji)
);

CREATE TABLE message_reactions (
    message_id uuid NOT NULL,
    emoji      text NOT NULL COLLATE "C",
    user_id    text NOT NULL COLLATE "C",
    PRIMARY KEY (message_id, emoji, user_id),
    FOREIGN KEY (message_id, emoji) REFERENCES message_emojis (message_id, emoji) ON DELETE CASCADE
);

CREATE TABLE pins (
    message_id      uuid        NOT NULL PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    conversation_id uuid        NOT NULL,
    pinned_by       text        NOT NULL,
    pinned_at       timestamptz NOT NULL
);

CREATE INDEX pins_of_conversation ON pins (conversation_id, pinned_at);

-- The level that a member has chosen. Without a row the level is 'all'.
CREATE TABLE notification_levels (
    conversation_id uuid NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id         text NOT NULL COLLATE "C",
    level           text NOT NULL CHECK (level IN ('all', 'mentions', 'none')),
    PRIMARY KEY (conversation_id, user_id)
);

-- The statuses that users set.
CREATE TABLE user_statuses (
    user_id    text        NOT NULL COLLATE "C" PRIMARY KEY,
    status     text        NOT NULL CHECK (status IN ('online', 'away', 'busy', 'offline')),
    text       text,
    -- Each change of a user has a later time than the one before.
    set_at     timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Finds expired statuses, which are removed.
CREATE INDEX user_statuses_by_end ON user_statuses (expires_at);

-- Servers and presence -----------------------------------------------------------------------------

-- The servers that use this database. A server whose lease has expired counts as dead.
CREATE TABLE nodes (
    id         uuid        NOT NULL PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

-- The users in each conversation, as each server reports them. Removed with the server's lease.
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

-- The secrets with which servers seal their messages to each other, if `adapter.secret` is not set.
-- The first secret seals, and all open. A server generates the first secret.
CREATE TABLE cluster_secrets (
    -- The lowest position seals.
    position integer     NOT NULL PRIMARY KEY,
    secret   bytea       NOT NULL UNIQUE CONSTRAINT cluster_secrets_length CHECK (octet_length(secret) BETWEEN 32 AND 1024),
    made_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Logins, revocations and blocks -------------------------------------------------------------------

CREATE TABLE sessions (
    -- SHA-256 of the id in hexadecimal digits. The id itself is not stored.
    id_hash    text        NOT NULL COLLATE "C" PRIMARY KEY,
    user_id    text        NOT NULL COLLATE "C",
    roles      text[]      NOT NULL,
    -- A JSON object, or null.
    data       text,
    -- The lifetime of an unused session.
    ttl_s      bigint      NOT NULL CHECK (ttl_s > 0),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

-- The sessions of a user.
CREATE INDEX sessions_of_user ON sessions (user_id);

-- Finds expired sessions, which are removed.
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- Credentials that were revoked before they expired.
CREATE TABLE revocations (
    kind       text        NOT NULL COLLATE "C" CHECK (kind IN ('token', 'session', 'user', 'role')),
    -- The jti, the hash of the session's id, the user's id, or the role.
    value      text        NOT NULL COLLATE "C",
    until      timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (kind, value)
);

-- Blocked networks, except those of the configuration.
CREATE TABLE blocks (
    id         uuid        NOT NULL PRIMARY KEY,
    cidr       text        NOT NULL COLLATE "C" UNIQUE,
    reason     text        NOT NULL,
    source     text        NOT NULL CHECK (source IN ('admin', 'automatic')),
    created_at timestamptz NOT NULL,
    -- Null: permanent.
    expires_at timestamptz
);

-- The change feed ----------------------------------------------------------------------------------

-- The changes of which every server must know. A row names the table and the changed entry, and the
-- table has the current state. Triggers write the rows, whichever program changes the tables.
CREATE TABLE changes (
    -- The transaction that wrote the row. Numbers of rows and of transactions are assigned before
    -- the commit, in another order than that of commits, so readers compare it with a snapshot.
    changed_in xid8   NOT NULL DEFAULT pg_current_xact_id(),
    id         bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    -- The name of the table.
    topic      text   NOT NULL COLLATE "C",
    -- The entry. Null: any entry may have changed.
    key        text   COLLATE "C",
    PRIMARY KEY (changed_in, id)
);

-- One row: the changes of this transaction and of all later ones are still stored.
CREATE TABLE changes_kept (
    only_row boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    since    xid8    NOT NULL DEFAULT '0'
);

INSERT INTO changes_kept DEFAULT VALUES;

-- Journals: trades, signals, portfolios, prices and notifications ----------------------------------

-- A journal is one subject, such as the trades of one user. Each of its entries takes the next
-- revision under the lock of the journal's row, so commits are in the order of revisions.
CREATE TABLE journals (
    name     text   NOT NULL COLLATE "C" PRIMARY KEY,
    -- The revision of the last entry. It never decreases, even if entries are removed.
    revision bigint NOT NULL
);

CREATE TABLE journal_entries (
    journal    text        NOT NULL COLLATE "C",
    revision   bigint      NOT NULL,
    -- The subject of the entry. Of all entries of a key, the last is current.
    key        text        NOT NULL COLLATE "C",
    -- JSON, as the server wrote it.
    body       text        NOT NULL,
    -- A part of the journal that is also read separately, such as a channel of signals.
    category   text        COLLATE "C",
    -- Whether another entry of the key may follow. A closed entry is final.
    is_open    boolean     NOT NULL,
    is_current boolean     NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (journal, revision)
);

CREATE UNIQUE INDEX journal_entries_current ON journal_entries (journal, key) WHERE is_current;

-- The newest entries of a category.
CREATE INDEX journal_entries_by_category ON journal_entries (journal, category, revision)
    WHERE is_current AND category IS NOT NULL;

CREATE INDEX journal_entries_open ON journal_entries (journal, revision) WHERE is_current AND is_open;

-- Entries that are removed after some time.
CREATE INDEX journal_entries_replaced ON journal_entries (created_at) WHERE NOT is_current;
CREATE INDEX journal_entries_closed ON journal_entries (created_at) WHERE is_current AND NOT is_open;
CREATE INDEX journal_entries_by_end ON journal_entries (expires_at) WHERE expires_at IS NOT NULL;

-- Publications -------------------------------------------------------------------------------------

-- Events that services publish in their own transactions, by the functions below or by INSERT. Each
-- server emits each row once, after the commit. See docs/publications.md.
CREATE TABLE publications (
    id           bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The transaction that wrote the row. Ids are assigned before the commit, in another order than
    -- that of commits.
    published_in xid8        NOT NULL DEFAULT pg_current_xact_id(),
    -- The recipients: a room, the sockets of a user, all sockets, or the followers of a channel.
    target       text        NOT NULL CHECK (target IN ('room', 'user', 'everyone', 'channel')),
    -- The room, the user or the channel.
    name         text        COLLATE "C",
    event        text        NOT NULL CONSTRAINT publications_event CHECK (
        char_length(event) BETWEEN 1 AND 128
        AND event NOT IN ('connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener')),
    -- The argument of the event. Null: the event has no argument. For a channel, its data and id.
    payload      jsonb       CONSTRAINT publications_payload CHECK (octet_length(payload::text) <= 65536),
    -- Of several publications with one key within a day, the first is emitted.
    key          text        COLLATE "C" CONSTRAINT publications_key CHECK (char_length(key) BETWEEN 1 AND 255),
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The place in the order in which every server emits, without gaps. The first server that reads
    -- the row assigns it.
    position     bigint,
    numbered_at  timestamptz,
    -- Why no server emits it.
    refused      text,
    -- Whether it is an event of its channel.
    is_stored    boolean     NOT NULL DEFAULT false,
    CONSTRAINT publications_name CHECK (CASE target
        WHEN 'room' THEN name IS NOT NULL AND octet_length(name) BETWEEN 1 AND 256
            AND name NOT LIKE 'conversation:%'
        WHEN 'user' THEN name IS NOT NULL AND char_length(name) BETWEEN 1 AND 128
        WHEN 'channel' THEN name IS NOT NULL AND char_length(name) BETWEEN 1 AND 1031 AND payload IS NOT NULL
        ELSE name IS NULL END)
);

CREATE UNIQUE INDEX publications_in_order ON publications (position) WHERE position IS NOT NULL;
CREATE INDEX publications_waiting ON publications (published_in, id) WHERE position IS NULL;
CREATE INDEX publications_not_stored ON publications (position)
    WHERE target = 'channel' AND NOT is_stored AND refused IS NULL AND position IS NOT NULL;
CREATE INDEX publications_refused ON publications (position) WHERE refused IS NOT NULL;

-- The keys of the last day.
CREATE TABLE publication_keys (
    key     text        NOT NULL COLLATE "C" PRIMARY KEY,
    used_at timestamptz NOT NULL
);

CREATE INDEX publication_keys_used_at ON publication_keys (used_at);

-- One row: the last assigned position.
CREATE TABLE publication_head (
    only_row  boolean     NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    position  bigint      NOT NULL DEFAULT 0,
    -- The publications of the transactions that this snapshot shows have positions. Null: unknown.
    known     pg_snapshot,
    -- When all publications were checked, not only those that `known` does not show.
    looked_at timestamptz NOT NULL DEFAULT '-infinity'
);

INSERT INTO publication_head DEFAULT VALUES;

-- The position up to which each named server has emitted.
CREATE TABLE publication_nodes (
    node     text        NOT NULL COLLATE "C" PRIMARY KEY,
    position bigint      NOT NULL,
    told_at  timestamptz NOT NULL
);

-- Webhooks and the HTTP API ------------------------------------------------------------------------

-- Webhook deliveries that are due or repeated.
CREATE TABLE webhook_deliveries (
    id         uuid        NOT NULL PRIMARY KEY,
    -- JSON, as it is sent.
    body       text        NOT NULL,
    created_at timestamptz NOT NULL,
    -- When a server may claim the delivery. A server that claims it moves this time beyond the
    -- duration of a request.
    due_at     timestamptz NOT NULL,
    attempts   integer     NOT NULL DEFAULT 0
);

CREATE INDEX webhook_deliveries_due_at ON webhook_deliveries (due_at, id);

-- API requests with an idempotency key, and their responses, so that a repeated request is not
-- executed again.
CREATE TABLE api_keys (
    -- A hash of the caller and the key.
    key          text        NOT NULL COLLATE "C" PRIMARY KEY,
    -- A hash of the request.
    request      text        NOT NULL,
    -- Distinguishes attempts under one key.
    attempt      uuid        NOT NULL,
    -- Until when an attempt without a response counts as running.
    locked_until timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    status       integer,
    -- Null: the body is not stored.
    body         text
);

CREATE INDEX api_keys_expires_at ON api_keys (expires_at);

-- The audit log ------------------------------------------------------------------------------------

-- Each administrative act, with the actor and what it changed. A server inserts the row before the
-- act, and sets the outcome after it. If a row has no outcome, the server stopped in between.
CREATE TABLE audit (
    -- Version 7: the order of the ids is the order of time.
    id            uuid        NOT NULL PRIMARY KEY,
    created_at    timestamptz NOT NULL,
    node          text        NOT NULL,
    -- `http`, `socket` or `command`.
    via           text        NOT NULL,
    -- The user whose credentials the server has checked. Null for commands on the database.
    user_id       text,
    -- The name that the command line states, without proof.
    stated_user   text,
    address       text,
    connection_id text,
    operation     text        NOT NULL,
    target        text,
    -- JSON objects without secrets and message texts.
    request       text,
    state_before  text,
    state_after   text,
    outcome       text,
    finished_at   timestamptz
);

CREATE INDEX audit_by_user ON audit (user_id, id);

-- Functions that servers call ----------------------------------------------------------------------
--
-- They act with the rights of their caller.
--
-- Up to PostgreSQL 14 every role may create functions and operators in the schema `public`. So
-- arguments have exactly the declared types, here and in the functions that act as their owner:
-- PostgreSQL then prefers the intended functions and operators.

-- Takes the next number of a conversation, whose row the caller has locked, and inserts a change.
-- Removes all but the newest thousand. A conversation that is being removed takes no number.
CREATE FUNCTION roomcast_take_change(
    conversation uuid, what text, message uuid, new_version integer, who text) RETURNS void
    LANGUAGE plpgsql SECURITY INVOKER SET search_path FROM CURRENT
    AS $$
    DECLARE
        taken bigint;
        newest bigint;
    BEGIN
        UPDATE conversations SET changes = changes + 1 WHERE id = conversation
            RETURNING changes, last_seq INTO taken, newest;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        INSERT INTO conversation_changes
            (conversation_id, number, seq, kind, message_id, version, user_id)
            VALUES (conversation, taken, newest, what, message, new_version, who);
        DELETE FROM conversation_changes
            WHERE conversation_id = conversation AND number <= taken - 1000;
    END $$;

-- Takes the next number of a conversation, whose row the caller has locked, for a reaction or a pin.
CREATE FUNCTION roomcast_take_annotation(
    conversation uuid, message uuid, new_version integer, what text) RETURNS void
    LANGUAGE plpgsql SECURITY INVOKER SET search_path FROM CURRENT
    AS $$ BEGIN
        PERFORM roomcast_take_change(conversation, 'annotated', message, new_version, NULL);
        UPDATE conversation_changes SET detail = what
            WHERE conversation_id = conversation
                AND number = (SELECT changes FROM conversations WHERE id = conversation);
    END $$;

-- Appends an entry, and returns it with the outcome:
-- - 'stored'
-- - 'there', with the entry of the key that stays, because it is closed or `if_open` keeps it
-- - 'absent', if `needs_open` and the key has no open entry
-- - 'full', if the journal has `most_open` open entries
--
-- `if_open` states what happens to an open entry of the key: 'remove' deletes it, 'keep' stores it
-- as replaced, and 'refuse' lets it stay. 'remove_older' and 'keep_older' do the same as 'remove'
-- and 'keep', unless the entry has a later `timestamp` than the new body: then it stays. The lock of
-- the journal's row covers the comparison, so the newer of two values wins in any order.
--
-- The texts of times have one form, which sorts like the times. A comparison of texts cannot fail,
-- even for years that PostgreSQL does not support.
CREATE FUNCTION roomcast_append(
    of_journal text, of_key text, new_body text, of_category text, opens boolean, if_open text,
    made_at timestamptz, ends_at timestamptz, needs_open boolean, most_open bigint
) RETURNS TABLE (
    outcome text, revision bigint, body text, category text, is_open boolean,
    created_at timestamptz, expires_at timestamptz
) LANGUAGE plpgsql SECURITY INVOKER SET search_path FROM CURRENT AS $$
DECLARE
    known journal_entries;
    next bigint;
    stays boolean;
BEGIN
    INSERT INTO journals AS j (name, revision) VALUES (of_journal, 0) ON CONFLICT DO NOTHING;
    SELECT j.revision + 1 INTO next FROM journals j WHERE j.name = of_journal FOR UPDATE;
    SELECT * INTO known FROM journal_entries e
        WHERE e.journal = of_journal AND e.key = of_key AND e.is_current;
    IF known.revision IS NOT NULL THEN
        stays := NOT known.is_open OR if_open = 'refuse';
        -- Other entries may have bodies without a time, so their bodies are not parsed.
        IF NOT stays AND (if_open = 'remove_older' OR if_open = 'keep_older') THEN
            stays := coalesce(
                (known.body::json ->> 'timestamp'::text) COLLATE "C" > (new_body::json ->> 'timestamp'::text) COLLATE "C",
                false);
        END IF;
        IF stays THEN
            RETURN QUERY SELECT 'there', known.revision, known.body, known.category, known.is_open,
                known.created_at, known.expires_at;
            RETURN;
        END IF;
    END IF;
    IF needs_open AND (known.revision IS NULL OR known.expires_at <= made_at) THEN
        RETURN QUERY SELECT 'absent', 0::bigint, ''::text, NULL::text, false, made_at, NULL::timestamptz;
        RETURN;
    END IF;
    IF opens AND known.revision IS NULL AND most_open <= (
        SELECT count(*) FROM (
            SELECT 1 FROM journal_entries e
            WHERE e.journal = of_journal AND e.is_current AND e.is_open
                AND (e.expires_at IS NULL OR e.expires_at > made_at)
            LIMIT most_open) AS open_ones)
    THEN
        RETURN QUERY SELECT 'full', 0::bigint, ''::text, NULL::text, false, made_at, NULL::timestamptz;
        RETURN;
    END IF;
    IF known.revision IS NOT NULL THEN
        IF if_open = 'keep' OR if_open = 'keep_older' THEN
            UPDATE journal_entries e SET is_current = false
                WHERE e.journal = of_journal AND e.revision = known.revision;
        ELSE
            DELETE FROM journal_entries e WHERE e.journal = of_journal AND e.revision = known.revision;
        END IF;
    END IF;
    UPDATE journals j SET revision = next WHERE j.name = of_journal;
    INSERT INTO journal_entries VALUES
        (of_journal, next, of_key, new_body, of_category, opens, true, made_at, ends_at);
    RETURN QUERY SELECT 'stored', next, new_body, of_category, opens, made_at, ends_at;
END $$;

-- Appends several entries as `roomcast_append` does, in the order of the arrays. Each locks the row
-- of its journal, so callers sort the entries by journal.
--
-- `quotas` states which open entries count towards `most_open` before an open entry of a new key:
-- - 'all': all of them
-- - 'without': those whose keys do not begin with the prefix
-- - 'dropping': those whose keys begin with the prefix. The oldest are closed with the given body to
--   make room, so the outcome is never 'full'.
CREATE FUNCTION roomcast_append_within(
    of_journals text[], of_keys text[], new_bodies text[], of_categories text[], opens boolean[], if_opens text[],
    made_at timestamptz[], ends_at timestamptz[], needs_open boolean[], most_open bigint[],
    quotas text[], prefixes text[], dropped_bodies text[], dropped_end timestamptz[]
) RETURNS TABLE (
    place integer, outcome text, revision bigint, key text, body text, category text, is_open boolean,
    created_at timestamptz, expires_at timestamptz
) LANGUAGE plpgsql SECURITY INVOKER SET search_path FROM CURRENT AS $$
DECLARE
    n integer;
    most bigint;
    counted bigint;
    oldest text;
BEGIN
    FOR n IN 1 .. pg_catalog.cardinality(of_journals) LOOP
        most := most_open[n];
        IF quotas[n] <> 'all' AND opens[n] THEN
            -- With the lock of the row, the count stays correct until the entry is appended.
            INSERT INTO journals AS j (name, revision) VALUES (of_journals[n], 0) ON CONFLICT DO NOTHING;
            PERFORM 1 FROM journals j WHERE j.name = of_journals[n] FOR UPDATE;
            IF EXISTS (SELECT 1 FROM journal_entries e
                WHERE e.journal = of_journals[n] AND e.key = of_keys[n] AND e.is_current)
            THEN
                NULL;
            ELSIF quotas[n] = 'dropping' THEN
                FOR oldest IN SELECT e.key FROM journal_entries e
                    WHERE e.journal = of_journals[n] AND e.is_current AND e.is_open
                        AND (e.expires_at IS NULL OR e.expires_at > made_at[n])
                        AND starts_with(e.key, prefixes[n])
                    ORDER BY e.revision DESC OFFSET greatest(most - 1::bigint, 0::bigint)
                LOOP
                    PERFORM 1 FROM roomcast_append(of_journals[n], oldest, dropped_bodies[n], NULL, false, 'remove',
                        made_at[n], dropped_end[n], false, 0);
                END LOOP;
            ELSE
                SELECT count(*) INTO counted FROM (
                    SELECT 1 FROM journal_entries e
                    WHERE e.journal = of_journals[n] AND e.is_current AND e.is_open
                        AND (e.expires_at IS NULL OR e.expires_at > made_at[n])
                        AND NOT starts_with(e.key, prefixes[n])
                    LIMIT most) AS counted_ones;
                IF counted >= most THEN
                    RETURN QUERY SELECT n, 'full', 0::bigint, of_keys[n], ''::text, NULL::text, false, made_at[n],
                        NULL::timestamptz;
                    CONTINUE;
                END IF;
            END IF;
            -- The quota was checked above, so `roomcast_append` must not check it again.
            most := 9223372036854775807;
        END IF;
        RETURN QUERY SELECT n, a.outcome, a.revision, of_keys[n], a.body, a.category, a.is_open, a.created_at,
            a.expires_at
            FROM roomcast_append(of_journals[n], of_keys[n], new_bodies[n], of_categories[n], opens[n], if_opens[n],
                made_at[n], ends_at[n], needs_open[n], most) a;
    END LOOP;
END $$;

-- Replaces the open entries of these keys, for a journal whose entries no trigger announces: one row
-- in `changes` announces all of them. Returns the revisions, with 0 for a new key for which the
-- journal has too many open entries.
--
-- If statistics date from a time when the journal was almost empty, PostgreSQL plans to read the
-- whole journal for each key. So plans are made for each call and have no nested loops: at worst
-- they read the journal once for each call.
CREATE FUNCTION roomcast_replace(
    of_journal text, of_keys text[], new_bodies text[], made_at timestamptz, most_open bigint
) RETURNS bigint[] LANGUAGE plpgsql SECURITY INVOKER
SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan
SET enable_seqscan = off SET enable_nestloop = off AS $$
DECLARE
    before bigint;
    room bigint := 0;
    known_keys text[];
    known_revisions bigint[];
    known_open boolean[];
    revisions bigint[];
    last bigint;
BEGIN
    IF pg_catalog.cardinality(of_keys) = 0 THEN
        RETURN '{}';
    END IF;
    INSERT INTO journals AS j (name, revision) VALUES (of_journal, 0) ON CONFLICT DO NOTHING;
    SELECT j.revision INTO before FROM journals j WHERE j.name = of_journal FOR UPDATE;
    SELECT pg_catalog.array_agg(e.key), pg_catalog.array_agg(e.revision), pg_catalog.array_agg(e.is_open)
    INTO known_keys, known_revisions, known_open
    FROM journal_entries e WHERE e.journal = of_journal AND e.key = ANY (of_keys) AND e.is_current;
    -- A known key needs no room. If a key is given twice, the entries may be counted needlessly.
    IF pg_catalog.cardinality(of_keys) <> coalesce(pg_catalog.cardinality(known_keys), 0) THEN
        SELECT most_open - count(*) INTO room FROM (
            SELECT FROM journal_entries e
            WHERE e.journal = of_journal AND e.is_current AND e.is_open
                AND (e.expires_at IS NULL OR e.expires_at > made_at)
            LIMIT most_open) AS open_ones;
    END IF;
    -- Each admitted entry takes a revision, in the order of the arrays. Of several entries of one
    -- key the last is stored.
    WITH given AS (
        SELECT g.n, g.key, g.body, k.revision AS known, k.is_open,
            pg_catalog.min(g.n) OVER (PARTITION BY g.key) AS earliest,
            pg_catalog.max(g.n) OVER (PARTITION BY g.key) AS final
        FROM unnest(of_keys, new_bodies) WITH ORDINALITY AS g (key, body, n)
        LEFT JOIN unnest(known_keys, known_revisions, known_open) AS k (key, revision, is_open) ON k.key = g.key
    ),
    ranked AS (
        SELECT g.*, dense_rank() OVER (PARTITION BY g.known IS NULL ORDER BY g.earliest) AS place FROM given g
    ),
    admitted AS (
        SELECT r.*, coalesce(r.is_open, r.place <= room) AS is_admitted FROM ranked r
    ),
    numbered AS (
        SELECT a.*, before + count(*) FILTER (WHERE a.is_admitted) OVER (ORDER BY a.n) AS revision FROM admitted a
    ),
    replaced AS (
        UPDATE journal_entries e
        SET revision = s.revision, body = s.body, category = NULL, created_at = made_at, expires_at = NULL
        FROM numbered s
        WHERE e.journal = of_journal AND e.revision = ANY (known_revisions) AND e.revision = s.known
            AND s.is_admitted AND s.n = s.final
    ),
    added AS (
        INSERT INTO journal_entries (journal, revision, key, body, is_open, created_at)
        SELECT of_journal, s.revision, s.key, s.body, true, made_at FROM numbered s
        WHERE s.known IS NULL AND s.is_admitted AND s.n = s.final
    )
    SELECT pg_catalog.array_agg(CASE WHEN s.is_admitted THEN s.revision ELSE 0::bigint END ORDER BY s.n),
        pg_catalog.max(s.revision) FILTER (WHERE s.is_admitted)
    INTO revisions, last FROM numbered s;
    IF last IS NOT NULL THEN
        UPDATE journals j SET revision = last WHERE j.name = of_journal;
        -- One change announces all entries that were replaced together.
        INSERT INTO changes (topic, key) VALUES ('journals', last::text || ':' || of_journal);
    END IF;
    RETURN revisions;
END $$;

-- Assigns positions to at most `most` committed publications, and returns the last assigned
-- position. One server does that at a time, and the others do not wait.
--
-- Publications that `known` does not show are of transactions that were running then or began later.
-- All publications are checked once a minute: after a restore, the numbers of transactions have no
-- meaning.
CREATE FUNCTION roomcast_number_publications(most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY INVOKER SET search_path FROM CURRENT
    AS $$
DECLARE
    over_now pg_snapshot := pg_current_snapshot();
    head publication_head;
    looks_at_all boolean;
    waiting bigint[];
    given bigint;
BEGIN
    SELECT * INTO head FROM publication_head;
    looks_at_all := head.known IS NULL OR head.looked_at < clock_timestamp() - interval '1 minute'
        OR pg_snapshot_xmax(head.known) > pg_snapshot_xmax(over_now);
    IF looks_at_all THEN
        SELECT array_agg(id) INTO waiting FROM (
            SELECT p.id FROM publications p WHERE p.position IS NULL ORDER BY p.id LIMIT most) AS w;
    ELSE
        SELECT array_agg(id) INTO waiting FROM (
            SELECT p.id FROM publications p
                WHERE p.position IS NULL AND p.published_in >= pg_snapshot_xmax(head.known)
            UNION ALL
            SELECT p.id FROM pg_snapshot_xip(head.known) AS under_way (xid)
                JOIN publications p ON p.position IS NULL AND p.published_in = under_way.xid
            ORDER BY id LIMIT most) AS w;
    END IF;
    IF waiting IS NULL AND NOT looks_at_all THEN
        RETURN head.position;
    END IF;
    SELECT * INTO head FROM publication_head FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN (SELECT h.position FROM publication_head h);
    END IF;
    WITH places AS MATERIALIZED (
        SELECT p.id, row_number() OVER (ORDER BY p.id) AS place
        FROM publications p WHERE p.id = ANY (waiting) AND p.position IS NULL),
    numbered AS (
        UPDATE publications p SET position = head.position + places.place, numbered_at = clock_timestamp()
        FROM places WHERE p.id = places.id RETURNING 1)
    SELECT count(*) INTO given FROM numbered;
    UPDATE publication_head h SET
        position = head.position + given,
        known = CASE WHEN coalesce(cardinality(waiting), 0) < most THEN over_now ELSE h.known END,
        looked_at = CASE WHEN looks_at_all THEN clock_timestamp() ELSE h.looked_at END;
    RETURN head.position + given;
END $$;

-- Functions that services call ---------------------------------------------------------------------
--
-- Each returns the id of the publication, or null if its key was used before. They act as their
-- owner, so a service needs only the right to execute them.

CREATE FUNCTION roomcast_publish(room text, event text, payload jsonb DEFAULT NULL, key text DEFAULT NULL)
    RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ INSERT INTO publications (target, name, event, payload, key) VALUES ('room', $1, $2, $3, $4) RETURNING id $$;

CREATE FUNCTION roomcast_publish_to_user(user_id text, event text, payload jsonb DEFAULT NULL, key text DEFAULT NULL)
    RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ INSERT INTO publications (target, name, event, payload, key) VALUES ('user', $1, $2, $3, $4) RETURNING id $$;

CREATE FUNCTION roomcast_publish_to_everyone(event text, payload jsonb DEFAULT NULL, key text DEFAULT NULL)
    RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ INSERT INTO publications (target, event, payload, key) VALUES ('everyone', $1, $2, $3) RETURNING id $$;

-- The id is that of the event in its channel.
CREATE FUNCTION roomcast_publish_channel(channel text, event text, data jsonb, id text)
    RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ INSERT INTO publications (target, name, event, payload, key) VALUES (
            'channel', $1, $2,
            pg_catalog.jsonb_build_object('id', $4, 'data', coalesce($3, 'null'::jsonb)),
            'channel:' || pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to($1 || E'\n' || $4, 'UTF8')), 'hex'))
        RETURNING id $$;

-- Triggers -----------------------------------------------------------------------------------------
--
-- Their functions act as their owner, so servers need no right to what they write. PostgreSQL checks
-- the right to execute such a function only when a trigger is created, so each function also
-- refuses to run for another table.

-- Each edit and each deletion of a message stores the earlier content.
CREATE FUNCTION roomcast_note_version() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'message_versions'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_note_version is for the table message_versions only';
        END IF;
        PERFORM roomcast_take_change(m.conversation_id,
                CASE WHEN m.deleted_at IS NULL THEN 'edited'::text ELSE 'deleted' END,
                m.id, m.version, NEW.replaced_by)
            FROM messages m WHERE m.id = NEW.message_id;
        RETURN NULL;
    END $$;

CREATE TRIGGER message_versions_note_change AFTER INSERT ON message_versions
    FOR EACH ROW EXECUTE FUNCTION roomcast_note_version();

CREATE FUNCTION roomcast_note_title() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'conversations'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_note_title is for the table conversations only';
        END IF;
        PERFORM roomcast_take_change(NEW.id, 'renamed'::text, NULL::uuid, NULL::integer, NULL::text);
        RETURN NULL;
    END $$;

-- The removal of the title of a deleted conversation is no change.
CREATE TRIGGER conversations_note_title AFTER UPDATE OF title ON conversations
    FOR EACH ROW WHEN (OLD.title IS DISTINCT FROM NEW.title AND NEW.deleted_at IS NULL)
    EXECUTE FUNCTION roomcast_note_title();

-- The deletion is the last change of a conversation, and contains its members.
CREATE FUNCTION roomcast_note_closed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'conversations'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_note_closed is for the table conversations only';
        END IF;
        PERFORM roomcast_take_change(NEW.id, 'closed'::text, NULL::uuid, NULL::integer, NEW.deleted_by);
        UPDATE conversation_changes SET member_ids =
                (SELECT pg_catalog.array_agg(user_id) FROM members WHERE conversation_id = NEW.id)
            WHERE conversation_id = NEW.id AND kind = 'closed';
        RETURN NULL;
    END $$;

CREATE TRIGGER conversations_note_closed AFTER UPDATE OF deleted_at ON conversations
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
    EXECUTE FUNCTION roomcast_note_closed();

-- The first members of a conversation are no change.
CREATE FUNCTION roomcast_note_added() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'members'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_note_added is for the table members only';
        END IF;
        PERFORM roomcast_take_change(a.conversation_id, 'added'::text, NULL::uuid, NULL::integer, a.user_id)
            FROM added a JOIN conversations c ON c.id = a.conversation_id
            WHERE a.joined_at <> c.created_at;
        RETURN NULL;
    END $$;

CREATE TRIGGER members_note_added AFTER INSERT ON members
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION roomcast_note_added();

CREATE FUNCTION roomcast_note_removed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'members'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_note_removed is for the table members only';
        END IF;
        PERFORM roomcast_take_change(r.conversation_id, 'removed'::text, NULL::uuid, NULL::integer, r.user_id)
            FROM removed r JOIN conversations c ON c.id = r.conversation_id
            WHERE c.deleted_at IS NULL;
        RETURN NULL;
    END $$;

CREATE TRIGGER members_note_removed AFTER DELETE ON members
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION roomcast_note_removed();

-- A deleted message loses its reactions and its pin.
CREATE FUNCTION roomcast_drop_annotations() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'messages'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_drop_annotations is for the table messages only';
        END IF;
        DELETE FROM message_emojis WHERE message_id = NEW.id;
        DELETE FROM pins WHERE message_id = NEW.id;
        RETURN NULL;
    END $$;

CREATE TRIGGER messages_drop_annotations AFTER UPDATE OF deleted_at ON messages
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
    EXECUTE FUNCTION roomcast_drop_annotations();

-- Members receive some changes of a conversation without being in its room: the new conversation,
-- its title, its members and its deletion. The key of the change is the conversation, with
-- `:NUMBER:SEQ` unless the conversation is new.
CREATE FUNCTION roomcast_tell_conversation() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'conversations'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_tell_conversation is for the table conversations only';
        END IF;
        INSERT INTO changes (topic, key) VALUES ('conversations', NEW.id::text);
        RETURN NULL;
    END $$;

CREATE TRIGGER conversations_tell AFTER INSERT ON conversations
    FOR EACH ROW EXECUTE FUNCTION roomcast_tell_conversation();

CREATE FUNCTION roomcast_tell_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'conversation_changes'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_tell_change is for the table conversation_changes only';
        END IF;
        INSERT INTO changes (topic, key) VALUES
            ('conversations', NEW.conversation_id::text || ':' || NEW.number::text || ':' || NEW.seq::text);
        RETURN NULL;
    END $$;

CREATE TRIGGER conversation_changes_tell AFTER INSERT ON conversation_changes
    FOR EACH ROW WHEN (NEW.kind IN ('renamed', 'added', 'removed', 'closed'))
    EXECUTE FUNCTION roomcast_tell_change();

-- The removal of an expired row is no change.
CREATE FUNCTION roomcast_tell_revocation() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'revocations'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_tell_revocation is for the table revocations only';
        END IF;
        INSERT INTO changes (topic, key)
            SELECT DISTINCT 'revocations', kind || ':' || value
            FROM (VALUES (OLD.kind, OLD.value), (NEW.kind, NEW.value)) AS entries (kind, value)
            WHERE kind IS NOT NULL;
        RETURN NULL;
    END $$;

CREATE TRIGGER revocations_tell AFTER INSERT OR UPDATE ON revocations
    FOR EACH ROW EXECUTE FUNCTION roomcast_tell_revocation();

CREATE TRIGGER revocations_tell_deleted AFTER DELETE ON revocations
    FOR EACH ROW WHEN (OLD.until > clock_timestamp()) EXECUTE FUNCTION roomcast_tell_revocation();

CREATE FUNCTION roomcast_tell_block() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'blocks'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_tell_block is for the table blocks only';
        END IF;
        INSERT INTO changes (topic, key)
            SELECT DISTINCT 'blocks', id::text
            FROM (VALUES (OLD.id), (NEW.id)) AS entries (id) WHERE id IS NOT NULL;
        RETURN NULL;
    END $$;

CREATE TRIGGER blocks_tell AFTER INSERT OR UPDATE ON blocks
    FOR EACH ROW EXECUTE FUNCTION roomcast_tell_block();

CREATE TRIGGER blocks_tell_deleted AFTER DELETE ON blocks
    FOR EACH ROW WHEN (OLD.expires_at IS NULL OR OLD.expires_at > clock_timestamp())
    EXECUTE FUNCTION roomcast_tell_block();

CREATE FUNCTION roomcast_tell_status() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'user_statuses'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_tell_status is for the table user_statuses only';
        END IF;
        INSERT INTO changes (topic, key)
            SELECT DISTINCT 'user_statuses', user_id
            FROM (VALUES (OLD.user_id), (NEW.user_id)) AS entries (user_id) WHERE user_id IS NOT NULL;
        RETURN NULL;
    END $$;

CREATE TRIGGER user_statuses_tell AFTER INSERT OR UPDATE ON user_statuses
    FOR EACH ROW EXECUTE FUNCTION roomcast_tell_status();

CREATE TRIGGER user_statuses_tell_deleted AFTER DELETE ON user_statuses
    FOR EACH ROW WHEN (OLD.expires_at > clock_timestamp()) EXECUTE FUNCTION roomcast_tell_status();

CREATE FUNCTION roomcast_tell_table() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID NOT IN ('revocations'::regclass::oid, 'blocks'::regclass::oid) THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_tell_table is for the tables revocations and blocks only';
        END IF;
        INSERT INTO changes (topic) VALUES (TG_TABLE_NAME);
        RETURN NULL;
    END $$;

CREATE TRIGGER revocations_tell_truncated AFTER TRUNCATE ON revocations
    FOR EACH STATEMENT EXECUTE FUNCTION roomcast_tell_table();

CREATE TRIGGER blocks_tell_truncated AFTER TRUNCATE ON blocks
    FOR EACH STATEMENT EXECUTE FUNCTION roomcast_tell_table();

-- The key of the change is REVISION:NAME. No client follows executions. `roomcast_replace` announces
-- prices.
CREATE FUNCTION roomcast_tell_journal() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'journal_entries'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_tell_journal is for the table journal_entries only';
        END IF;
        INSERT INTO changes (topic, key) VALUES ('journals', NEW.revision::text || ':' || NEW.journal);
        RETURN NULL;
    END $$;

CREATE TRIGGER journal_entries_tell AFTER INSERT ON journal_entries
    FOR EACH ROW WHEN (NEW.journal NOT IN ('executions', 'prices'))
    EXECUTE FUNCTION roomcast_tell_journal();

-- Skips a publication whose key was used within a day. Of two transactions with one key the second
-- waits for the first.
CREATE FUNCTION roomcast_use_publication_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'publications'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_use_publication_key is for the table publications only';
        END IF;
        INSERT INTO publication_keys AS k (key, used_at) VALUES (NEW.key, clock_timestamp())
            ON CONFLICT (key) DO UPDATE SET used_at = excluded.used_at
            WHERE k.used_at < excluded.used_at - interval '24 hours';
        IF FOUND THEN RETURN NEW; END IF;
        RETURN NULL;
    END $$;

CREATE TRIGGER publications_use_key BEFORE INSERT ON publications
    FOR EACH ROW WHEN (NEW.key IS NOT NULL) EXECUTE FUNCTION roomcast_use_publication_key();

-- Rights -------------------------------------------------------------------------------------------
--
-- The right to connect to the database includes no right to these objects. `docs/security.md` lists
-- who may do what. PostgreSQL grants PUBLIC the right to execute each new function, and the default
-- privileges of a schema cannot change that, so each migration revokes it.

REVOKE ALL ON FUNCTION
    roomcast_append(text, text, text, text, boolean, text, timestamptz, timestamptz, boolean, bigint),
    roomcast_append_within(
        text[], text[], text[], text[], boolean[], text[], timestamptz[], timestamptz[], boolean[], bigint[],
        text[], text[], text[], timestamptz[]),
    roomcast_drop_annotations(),
    roomcast_note_added(),
    roomcast_note_closed(),
    roomcast_note_removed(),
    roomcast_note_title(),
    roomcast_note_version(),
    roomcast_number_publications(integer),
    roomcast_publish(text, text, jsonb, text),
    roomcast_publish_channel(text, text, jsonb, text),
    roomcast_publish_to_everyone(text, jsonb, text),
    roomcast_publish_to_user(text, text, jsonb, text),
    roomcast_replace(text, text[], text[], timestamptz, bigint),
    roomcast_take_annotation(uuid, uuid, integer, text),
    roomcast_take_change(uuid, text, uuid, integer, text),
    roomcast_tell_block(),
    roomcast_tell_change(),
    roomcast_tell_conversation(),
    roomcast_tell_journal(),
    roomcast_tell_revocation(),
    roomcast_tell_status(),
    roomcast_tell_table(),
    roomcast_use_publication_key(),
    roomcast_words(text)
    FROM PUBLIC;

-- Default privileges of the owner may have granted rights to PUBLIC.
REVOKE ALL ON TABLE
    api_keys, audit, blocks, changes, changes_kept, cluster_secrets, conversation_changes, conversations, invites,
    journal_entries, journals, members, message_emojis, message_reactions, message_streams, message_versions, messages, nodes,
    notification_levels, pins, presences, publication_head, publication_keys, publication_nodes, publications, reads,
    revocations, roomcast_schema, sessions, user_statuses, webhook_deliveries
    FROM PUBLIC;

REVOKE ALL ON SEQUENCE changes_id_seq, publications_id_seq FROM PUBLIC;

-- Default privileges of the owner may have granted rights to roles. A role that may insert messages
-- and update conversations is the role of a server: it also gets the functions that servers call. A
-- role that may read or write messages needs `roomcast_words`, which an index on messages uses. The
-- tables `audit` and `cluster_secrets` are for servers only.
DO $$
DECLARE
    owner CONSTANT oid := (SELECT relowner FROM pg_class WHERE oid = 'messages'::regclass::oid);
    known record;
BEGIN
    FOR known IN
        SELECT DISTINCT c.relname, a.grantee::regrole::text AS name FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid IN ('audit'::regclass::oid, 'cluster_secrets'::regclass::oid) AND a.grantee NOT IN (0::oid, owner)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON TABLE %I FROM %s', known.relname, known.name);
    END LOOP;
    FOR known IN
        SELECT a.grantee::regrole::text AS name,
            bool_or(c.oid = 'messages'::regclass::oid AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE')) AS needs_words,
            bool_or(c.oid = 'messages'::regclass::oid AND a.privilege_type = 'INSERT')
                AND bool_or(c.oid = 'conversations'::regclass::oid AND a.privilege_type = 'UPDATE') AS is_server
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid IN ('messages'::regclass::oid, 'conversations'::regclass::oid) AND a.grantee <> 0::oid
            -- Superusers and members of the owner's role have the rights.
            AND NOT pg_has_role(a.grantee, owner, 'USAGE')
        GROUP BY a.grantee
    LOOP
        IF known.needs_words THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION roomcast_words(text) TO %s', known.name);
        END IF;
        IF known.is_server THEN
            EXECUTE pg_catalog.format(
                'GRANT EXECUTE ON FUNCTION
                     roomcast_append(text, text, text, text, boolean, text, timestamptz, timestamptz, boolean, bigint),
                     roomcast_append_within(
                         text[], text[], text[], text[], boolean[], text[], timestamptz[], timestamptz[], boolean[],
                         bigint[], text[], text[], text[], timestamptz[]),
                     roomcast_number_publications(integer),
                     roomcast_replace(text, text[], text[], timestamptz, bigint),
                     roomcast_take_annotation(uuid, uuid, integer, text),
                     roomcast_take_change(uuid, text, uuid, integer, text) TO %1$s;
                 GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE audit TO %1$s;
                 GRANT SELECT ON TABLE cluster_secrets TO %1$s',
                known.name);
        END IF;
    END LOOP;
END $$;
