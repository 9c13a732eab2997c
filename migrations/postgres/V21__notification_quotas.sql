-- Notifications of mentions have a quota of their own in the journal of their user, and give way to newer ones.

-- Puts stored notifications of mentions into the part of the journal that their conversation is, as new ones are: reading
-- the message acknowledges them.
UPDATE journal_entries SET category = substring(body FROM '/#/c/([0-9a-f-]{36})/')
    WHERE journal LIKE 'notifications:%' AND key LIKE 'mention:%' AND is_current AND is_open AND category IS NULL;

SELECT pg_catalog.set_config('search_path', pg_catalog.quote_ident(current_schema()::text) || ', pg_temp', true);

-- Appends entries as roomcast_append does, in the order of the arrays: callers give them in the order of the names of
-- journals, since each locks the row of its journal. Which open entries count before an open one of a new key: with the
-- quota 'all' all of them, with 'without' those whose keys do not begin with the prefix, with 'dropping' those whose keys
-- do. With 'dropping' the oldest are closed with the given body to make room; otherwise the outcome is 'full'.
--
-- It acts with the rights of its caller, which are those of a server.
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
            -- The lock of the row keeps the count true until the entry is appended.
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
            -- What counts was counted, and the others must not count.
            most := 9223372036854775807;
        END IF;
        RETURN QUERY SELECT n, a.outcome, a.revision, of_keys[n], a.body, a.category, a.is_open, a.created_at,
            a.expires_at
            FROM roomcast_append(of_journals[n], of_keys[n], new_bodies[n], of_categories[n], opens[n], if_opens[n],
                made_at[n], ends_at[n], needs_open[n], most) a;
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION roomcast_append_within(
    text[], text[], text[], text[], boolean[], text[], timestamptz[], timestamptz[], boolean[], bigint[],
    text[], text[], text[], timestamptz[]) FROM PUBLIC;

-- Roles that may append to journals, by the function before or by writing the table, may do so by this function.
DO $$
DECLARE
    before CONSTANT oid := 'roomcast_append(text, text, text, text, boolean, text, timestamptz, timestamptz, boolean, bigint)'
        ::regprocedure::oid;
    entries CONSTANT oid := 'journal_entries'::regclass::oid;
    writer record;
BEGIN
    FOR writer IN
        SELECT a.grantee::regrole::text AS name FROM pg_proc p, aclexplode(p.proacl) a
        WHERE p.oid = before AND a.privilege_type = 'EXECUTE' AND a.grantee <> 0::oid
        UNION
        SELECT a.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = entries AND a.privilege_type = 'INSERT' AND a.grantee <> 0::oid
        UNION
        SELECT a.grantee::regrole::text FROM pg_attribute c, aclexplode(c.attacl) a
        WHERE c.attrelid = entries AND a.privilege_type = 'INSERT' AND a.grantee <> 0::oid
    LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION roomcast_append_within('
            'text[], text[], text[], text[], boolean[], text[], timestamptz[], timestamptz[], boolean[], bigint[], '
            'text[], text[], text[], timestamptz[]) TO %s', writer.name);
    END LOOP;
END $$;
