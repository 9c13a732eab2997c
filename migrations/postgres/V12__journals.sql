-- What services publish: trades, signals, portfolios, notifications. A journal is one matter, such as the trades of
-- one user. Each of its entries has the next revision, under the lock of the journal's row, so that commits are in
-- the order of revisions.

CREATE TABLE journals (
    name     text   NOT NULL COLLATE "C" PRIMARY KEY,
    -- Of the last entry. It never goes back, also when entries are removed.
    revision bigint NOT NULL
);

CREATE TABLE journal_entries (
    journal    text        NOT NULL COLLATE "C",
    revision   bigint      NOT NULL,
    -- What it is about; of all entries of one key the last is current.
    key        text        NOT NULL COLLATE "C",
    -- JSON, as the server wrote it.
    body       text        NOT NULL,
    -- A part of the journal that can be read by itself, such as a channel of signals.
    category   text        COLLATE "C",
    -- Whether it may be followed by another one of its key: a closed entry is final.
    is_open    boolean     NOT NULL,
    is_current boolean     NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (journal, revision)
);

CREATE UNIQUE INDEX journal_entries_current ON journal_entries (journal, key) WHERE is_current;

-- The newest of a category.
CREATE INDEX journal_entries_by_category ON journal_entries (journal, category, revision)
    WHERE is_current AND category IS NOT NULL;

CREATE INDEX journal_entries_open ON journal_entries (journal, revision) WHERE is_current AND is_open;

-- What can be forgotten.
CREATE INDEX journal_entries_replaced ON journal_entries (created_at) WHERE NOT is_current;
CREATE INDEX journal_entries_closed ON journal_entries (created_at) WHERE is_current AND NOT is_open;
CREATE INDEX journal_entries_by_end ON journal_entries (expires_at) WHERE expires_at IS NOT NULL;

-- The functions act as their owner, so that servers that may only write the tables go on doing that.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Appends an entry, and returns it with the outcome: 'stored'; 'there' with the entry that allows no other, since it is
-- closed or if_open is 'refuse'; 'absent' if there had to be an open one; 'full' if there are too many open ones. With
-- if_open 'keep' an open entry stays as what was before, with 'remove' it goes.
CREATE FUNCTION roomcast_append(
    of_journal text, of_key text, new_body text, of_category text, opens boolean, if_open text,
    made_at timestamptz, ends_at timestamptz, needs_open boolean, most_open bigint
) RETURNS TABLE (
    outcome text, revision bigint, body text, category text, is_open boolean,
    created_at timestamptz, expires_at timestamptz
) LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    known journal_entries;
    next bigint;
BEGIN
    INSERT INTO journals AS j (name, revision) VALUES (of_journal, 0) ON CONFLICT DO NOTHING;
    SELECT j.revision + 1 INTO next FROM journals j WHERE j.name = of_journal FOR UPDATE;
    SELECT * INTO known FROM journal_entries e
        WHERE e.journal = of_journal AND e.key = of_key AND e.is_current;
    IF known.revision IS NOT NULL AND (NOT known.is_open OR if_open = 'refuse') THEN
        RETURN QUERY SELECT 'there', known.revision, known.body, known.category, known.is_open,
            known.created_at, known.expires_at;
        RETURN;
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
        IF if_open = 'keep' THEN
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

-- Servers at which somebody follows a journal hear of it by the feed, whose key is REVISION:NAME. Nobody follows prices and
-- orders, which are read when they are needed.
CREATE FUNCTION roomcast_tell_journal() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        INSERT INTO changes (topic, key) VALUES ('journals', NEW.revision || ':' || NEW.journal);
        RETURN NULL;
    END $$;

CREATE TRIGGER journal_entries_tell AFTER INSERT ON journal_entries
    FOR EACH ROW WHEN (NEW.journal <> 'executions' AND NEW.journal NOT LIKE 'prices:%')
    EXECUTE FUNCTION roomcast_tell_journal();
