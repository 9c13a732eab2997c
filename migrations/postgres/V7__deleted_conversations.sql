-- A conversation that is deleted is there for nobody. Its row stays for a day, and what belongs to it is
-- removed a little at a time. It has no members from the start, so that servers of the version before, which
-- do not know of the columns, show it to nobody either.

ALTER TABLE conversations ADD COLUMN deleted_at timestamptz;
ALTER TABLE conversations ADD COLUMN deleted_by text;

-- What is left to be removed.
CREATE INDEX conversations_deleted ON conversations (deleted_at) WHERE deleted_at IS NOT NULL;

-- That is the last step in the order of its conversation, with those who were members. The title and the
-- members that go with it are no steps of their own.
ALTER TABLE conversation_changes ADD COLUMN member_ids text[] COLLATE "C";
ALTER TABLE conversation_changes DROP CONSTRAINT conversation_changes_kind_check;
ALTER TABLE conversation_changes ADD CONSTRAINT conversation_changes_kind_check
    CHECK (kind IN ('edited', 'deleted', 'renamed', 'added', 'removed', 'closed'));

-- The functions act as their owner, so that servers that may only write the tables go on doing that.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE FUNCTION roomcast_note_closed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        PERFORM roomcast_take_change(NEW.id, 'closed', NULL, NULL, NEW.deleted_by);
        UPDATE conversation_changes SET member_ids =
                (SELECT array_agg(user_id) FROM members WHERE conversation_id = NEW.id)
            WHERE conversation_id = NEW.id AND kind = 'closed';
        RETURN NULL;
    END $$;

CREATE TRIGGER conversations_note_closed AFTER UPDATE OF deleted_at ON conversations
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
    EXECUTE FUNCTION roomcast_note_closed();

DROP TRIGGER conversations_note_title ON conversations;
CREATE TRIGGER conversations_note_title AFTER UPDATE OF title ON conversations
    FOR EACH ROW WHEN (OLD.title IS DISTINCT FROM NEW.title AND NEW.deleted_at IS NULL)
    EXECUTE FUNCTION roomcast_note_title();

CREATE OR REPLACE FUNCTION roomcast_note_removed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        PERFORM roomcast_take_change(r.conversation_id, 'removed', NULL, NULL, r.user_id)
            FROM removed r JOIN conversations c ON c.id = r.conversation_id
            WHERE c.deleted_at IS NULL;
        RETURN NULL;
    END $$;
