-- What members say about messages without writing one: reactions and pins. What a message answers, whom it mentions, and
-- of what each member wants to be notified.

ALTER TABLE messages ADD COLUMN reply_to uuid;
-- A JSON array of the ids of users.
ALTER TABLE messages ADD COLUMN mentions text;

-- The emojis with which somebody has reacted to a message, so that reading a page of messages does not count reactions.
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

-- Who has no row is notified of everything.
CREATE TABLE notification_levels (
    conversation_id uuid NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id         text NOT NULL COLLATE "C",
    level           text NOT NULL CHECK (level IN ('all', 'mentions', 'none')),
    PRIMARY KEY (conversation_id, user_id)
);

-- A reaction or a pin is a step in the order of its conversation, with what members are told of it. Servers of the version
-- before pass over it, because it names no user.
ALTER TABLE conversation_changes ADD COLUMN detail text;
ALTER TABLE conversation_changes DROP CONSTRAINT conversation_changes_kind_check;
ALTER TABLE conversation_changes ADD CONSTRAINT conversation_changes_kind_check
    CHECK (kind IN ('edited', 'deleted', 'renamed', 'added', 'removed', 'closed', 'annotated'));

-- The functions act as their owner, so that servers that may only write the tables go on doing that.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Takes the next number of a conversation, whose row the writer has locked, for a reaction or a pin.
CREATE FUNCTION roomcast_take_annotation(
    conversation uuid, message uuid, new_version integer, what text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        PERFORM roomcast_take_change(conversation, 'annotated', message, new_version, NULL);
        UPDATE conversation_changes SET detail = what
            WHERE conversation_id = conversation
                AND number = (SELECT changes FROM conversations WHERE id = conversation);
    END $$;

-- A message that is deleted loses its reactions and its pin, whichever version of the server deletes it.
CREATE FUNCTION roomcast_drop_annotations() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        DELETE FROM message_emojis WHERE message_id = NEW.id;
        DELETE FROM pins WHERE message_id = NEW.id;
        RETURN NULL;
    END $$;

CREATE TRIGGER messages_drop_annotations AFTER UPDATE OF deleted_at ON messages
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
    EXECUTE FUNCTION roomcast_drop_annotations();
