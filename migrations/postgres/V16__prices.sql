-- Prices are one journal, `prices`, in which a symbol is a key: they are replaced many at a time, and servers hear of all
-- that were replaced together by one change.

-- The functions act as their owner, so that servers that may only write the tables go on doing that.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

DROP TRIGGER journal_entries_tell ON journal_entries;

CREATE TRIGGER journal_entries_tell AFTER INSERT ON journal_entries
    FOR EACH ROW WHEN (NEW.journal NOT IN ('executions', 'prices') AND NEW.journal NOT LIKE 'prices:%')
    EXECUTE FUNCTION roomcast_tell_journal();

-- Replaces the open entries of these keys by others, one after the other, and tells of the last one, for a journal whose entries are
-- told by no trigger. Returns their revisions, or 0 for a new key for which there are too many open entries.
CREATE FUNCTION roomcast_replace(
    of_journal text, of_keys text[], new_bodies text[], made_at timestamptz, most_open bigint
) RETURNS bigint[] LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    revisions bigint[] := '{}';
    appended record;
    last bigint;
BEGIN
    FOR i IN 1 .. cardinality(of_keys) LOOP
        SELECT a.outcome, a.revision INTO appended FROM roomcast_append(
            of_journal, of_keys[i], new_bodies[i], NULL, true, 'remove', made_at, NULL, false, most_open) a;
        IF appended.outcome = 'stored' THEN
            last := appended.revision;
            revisions[i] := last;
        ELSE
            revisions[i] := 0;
        END IF;
    END LOOP;
    IF last IS NOT NULL THEN
        INSERT INTO changes (topic, key) VALUES ('journals', last || ':' || of_journal);
    END IF;
    RETURN revisions;
END $$;

-- Each price was a journal of its own. Servers of the version before go on with those, which are left where they are.
INSERT INTO journals (name, revision)
    SELECT 'prices', least(count(*), 10000) FROM journal_entries
    WHERE journal LIKE 'prices:%' AND is_current HAVING count(*) > 0;

INSERT INTO journal_entries (journal, revision, key, body, is_open, created_at)
    SELECT 'prices', row_number() OVER (ORDER BY created_at DESC), substr(journal, 8), body, true, created_at
    FROM journal_entries WHERE journal LIKE 'prices:%' AND is_current
    ORDER BY created_at DESC LIMIT 10000;
