-- What has changed that every server must know and that is not part of a conversation. A row says
-- which entry of which table has changed; the table says what it is now. Triggers write the rows, since
-- servers of the version before know only the tables.

CREATE TABLE changes (
    -- The transaction that wrote it. Numbers of rows and of transactions are given out before a commit,
    -- and so in another order than that of commits: who reads compares this one with a snapshot.
    changed_in xid8   NOT NULL DEFAULT pg_current_xact_id(),
    id         bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    -- The name of the table.
    topic      text   NOT NULL COLLATE "C",
    -- Which entry; nothing: any of them may have changed.
    key        text   COLLATE "C",
    PRIMARY KEY (changed_in, id)
);

-- One row: all that transactions from this one on have written is still here.
CREATE TABLE changes_kept (
    only_row boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    since    xid8    NOT NULL DEFAULT '0'
);

INSERT INTO changes_kept DEFAULT VALUES;

-- The functions act as their owner, so that servers that may only write the tables go on doing that;
-- nobody can put a temporary table in the way. A row that ends by itself is no change when it is
-- removed after its end.

SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE FUNCTION roomcast_tell_revocation() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
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

CREATE FUNCTION roomcast_tell_table() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN INSERT INTO changes (topic) VALUES (TG_TABLE_NAME); RETURN NULL; END $$;

CREATE TRIGGER revocations_tell_truncated AFTER TRUNCATE ON revocations
    FOR EACH STATEMENT EXECUTE FUNCTION roomcast_tell_table();

CREATE TRIGGER blocks_tell_truncated AFTER TRUNCATE ON blocks
    FOR EACH STATEMENT EXECUTE FUNCTION roomcast_tell_table();
