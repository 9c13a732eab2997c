-- The audit log: each administrative act, with the actor and what it changed. A server inserts the row before the act, and
-- sets the outcome after it: a row without an outcome is of an act whose server stopped in between.

SELECT pg_catalog.set_config('search_path', pg_catalog.quote_ident(current_schema()::text) || ', pg_temp', true);

CREATE TABLE audit (
    -- Version 7: the order of the ids is the order of time.
    id            uuid        NOT NULL PRIMARY KEY,
    created_at    timestamptz NOT NULL,
    node          text        NOT NULL,
    -- `http`, `socket` or `command`.
    via           text        NOT NULL,
    -- The user whose credentials the server has checked. Null for commands on the database.
    user_id       text,
    -- The name that the command line states, which nothing proves.
    stated_user   text,
    address       text,
    connection_id text,
    operation     text        NOT NULL,
    target        text,
    -- JSON objects without secrets and message texts.
    request       text,
    state_before  text,
    state_after   text,
    outcome       text,
    finished_at   timestamptz
);

CREATE INDEX audit_by_user ON audit (user_id, id);

-- Default privileges may have given the new table to others. A role is a server's if it may execute what only servers call,
-- which migration 19 has given to all of them.
DO $$
DECLARE
    entries CONSTANT oid := 'audit'::regclass::oid;
    called CONSTANT oid := 'roomcast_take_change(uuid, text, uuid, integer, text)'::regprocedure::oid;
    owner CONSTANT oid := (SELECT relowner FROM pg_class WHERE oid = entries);
    known record;
BEGIN
    REVOKE ALL ON TABLE audit FROM PUBLIC;
    FOR known IN
        SELECT DISTINCT a.grantee::regrole::text AS name FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = entries AND a.grantee NOT IN (0::oid, owner)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON TABLE audit FROM %s', known.name);
    END LOOP;
    FOR known IN
        SELECT DISTINCT a.grantee::regrole::text AS name FROM pg_proc p, aclexplode(p.proacl) a
        WHERE p.oid = called AND a.privilege_type = 'EXECUTE'::text AND a.grantee NOT IN (0::oid, owner)
    LOOP
        EXECUTE pg_catalog.format('GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE audit TO %s', known.name);
    END LOOP;
END $$;
