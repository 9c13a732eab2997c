-- The order of a conversation covers more than its messages: each edit, deletion, new title and change of
-- its members takes a number as well, and leaves a row for the sequencers of other servers. Triggers take
-- and write both, whichever version of the server does the work; messages cost nothing, since they count
-- in last_seq. The revision of a conversation is last_seq + changes.

ALTER TABLE conversations ADD COLUMN changes bigint NOT NULL DEFAULT 0;

CREATE TABLE conversation_changes (
    conversation_id uuid        NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    -- 1, 2, 3 and so on in each conversation, in the order of their commits.
    number          bigint      NOT NULL CHECK (number > 0),
    -- The seq of the last message before it.
    seq             bigint      NOT NULL CHECK (seq >= 0),
    kind            text        NOT NULL CHECK (kind IN ('edited', 'deleted', 'renamed', 'added', 'removed')),
    -- The message that was changed, and the version that it has since.
    message_id      uuid,
    version         integer,
    -- The member, or who deleted the message.
    user_id         text        COLLATE "C",
    changed_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, number)
);

-- What is old is forgotten along this index.
CREATE INDEX conversation_changes_by_time ON conversation_changes (changed_at);

-- The functions act as their owner, so that servers that may only write the tables go on doing that.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Takes the next number of a conversation, whose row the writer has locked, and leaves a row. The newest
-- thousand are kept. A conversation that is being removed takes none.
CREATE FUNCTION roomcast_take_change(
    conversation uuid, what text, message uuid, new_version integer, who text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
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

-- Every edit and every deletion keeps what was there before.
CREATE FUNCTION roomcast_note_version() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        PERFORM roomcast_take_change(m.conversation_id,
                CASE WHEN m.deleted_at IS NULL THEN 'edited' ELSE 'deleted' END,
                m.id, m.version, NEW.replaced_by)
            FROM messages m WHERE m.id = NEW.message_id;
        RETURN NULL;
    END $$;

CREATE TRIGGER message_versions_note_change AFTER INSERT ON message_versions
    FOR EACH ROW EXECUTE FUNCTION roomcast_note_version();

CREATE FUNCTION roomcast_note_title() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        PERFORM roomcast_take_change(NEW.id, 'renamed', NULL, NULL, NULL);
        RETURN NULL;
    END $$;

CREATE TRIGGER conversations_note_title AFTER UPDATE OF title ON conversations
    FOR EACH ROW WHEN (OLD.title IS DISTINCT FROM NEW.title)
    EXECUTE FUNCTION roomcast_note_title();

-- Those who are members from the beginning are no change.
CREATE FUNCTION roomcast_note_added() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        PERFORM roomcast_take_change(a.conversation_id, 'added', NULL, NULL, a.user_id)
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
        PERFORM roomcast_take_change(r.conversation_id, 'removed', NULL, NULL, r.user_id)
            FROM removed r;
        RETURN NULL;
    END $$;

CREATE TRIGGER members_note_removed AFTER DELETE ON members
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION roomcast_note_removed();
