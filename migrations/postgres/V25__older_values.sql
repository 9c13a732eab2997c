-- `roomcast_append` takes two more values for if_open: 'remove_older' and 'keep_older' are 'remove' and 'keep', but an open
-- entry whose body has a later `timestamp` than the new body stays, and is returned with the outcome 'there'. The comparison
-- is made under the lock of the journal's row, so of two servers the newer value wins whichever comes first.
--
-- The texts of times have one form, which sorts like the times: comparing texts cannot fail for years that PostgreSQL lacks.

SELECT pg_catalog.set_config('search_path', pg_catalog.quote_ident(current_schema()::text) || ', pg_temp', true);

CREATE OR REPLACE FUNCTION roomcast_append(
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
        -- Other entries need not have a body with a time, so their bodies are not parsed.
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
