-- `roomcast_replace` counted the open entries of the journal once for each new key, so 9,000 new prices took minutes.
-- It now counts them once, and replaces all entries together.
--
-- Statistics may be of a time when the journal was almost empty, and such plans read the whole journal for each key. So
-- plans are made for each call and have no nested loops: at worst they read the journal once for each call.

-- The functions must find their tables in this schema, whatever the caller's search_path is.
SELECT pg_catalog.set_config('search_path', pg_catalog.quote_ident(current_schema()::text) || ', pg_temp', true);

CREATE OR REPLACE FUNCTION roomcast_replace(
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
    -- A key that is known needs no room. If a key is given twice, the entries may be counted needlessly.
    IF pg_catalog.cardinality(of_keys) <> coalesce(pg_catalog.cardinality(known_keys), 0) THEN
        SELECT most_open - count(*) INTO room FROM (
            SELECT FROM journal_entries e
            WHERE e.journal = of_journal AND e.is_current AND e.is_open
                AND (e.expires_at IS NULL OR e.expires_at > made_at)
            LIMIT most_open) AS open_ones;
    END IF;
    -- Each admitted entry takes a revision, in the order of the arrays. Of several entries of one key the last is stored.
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
        -- Servers receive all entries that were replaced together by one change.
        INSERT INTO changes (topic, key) VALUES ('journals', last::text || ':' || of_journal);
    END IF;
    RETURN revisions;
END $$;
