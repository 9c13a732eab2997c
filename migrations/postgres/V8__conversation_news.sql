-- Who is a member of a conversation hears of some of its changes without being in it: that there is one more, a
-- new title, members who come and go, its end. Servers at which nobody is in it hear of these by the feed, whose
-- key is the conversation, and what has changed as NUMBER:SEQ behind it if it was there before.

-- The functions act as their owner, so that servers that may only write the tables go on doing that.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE FUNCTION roomcast_tell_conversation() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        INSERT INTO changes (topic, key) VALUES ('conversations', NEW.id::text);
        RETURN NULL;
    END $$;

CREATE TRIGGER conversations_tell AFTER INSERT ON conversations
    FOR EACH ROW EXECUTE FUNCTION roomcast_tell_conversation();

CREATE FUNCTION roomcast_tell_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        INSERT INTO changes (topic, key) VALUES
            ('conversations', NEW.conversation_id || ':' || NEW.number || ':' || NEW.seq);
        RETURN NULL;
    END $$;

CREATE TRIGGER conversation_changes_tell AFTER INSERT ON conversation_changes
    FOR EACH ROW WHEN (NEW.kind IN ('renamed', 'added', 'removed', 'closed'))
    EXECUTE FUNCTION roomcast_tell_change();

-- Servers that are joined by an adapter speak only to those with the same store.
ALTER TABLE roomcast_schema ADD COLUMN store_id uuid NOT NULL DEFAULT gen_random_uuid();
