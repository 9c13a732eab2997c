-- The secrets with which servers seal what they send each other through the adapter, where `adapter.secret` is not
-- configured. The first seals, all open. A server makes the first one, from random bytes of its operating system: see
-- docs/cluster.md.

SELECT pg_catalog.set_config('search_path', pg_catalog.quote_ident(current_schema()::text) || ', pg_temp', true);

CREATE TABLE cluster_secrets (
    -- The order: the lowest seals.
    position integer     NOT NULL PRIMARY KEY,
    secret   bytea       NOT NULL UNIQUE CONSTRAINT cluster_secrets_length CHECK (octet_length(secret) BETWEEN 32 AND 1024),
    made_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Default privileges may have given the new table to others, such as roles for reports: servers alone read it. A role
-- is a server's if it may execute what only servers call, which migration 19 has given to all of them; it may read the
-- secrets, and neither replace nor remove them.
DO $$
DECLARE
    secrets CONSTANT oid := 'cluster_secrets'::regclass::oid;
    called CONSTANT oid := 'roomcast_take_change(uuid, text, uuid, integer, text)'::regprocedure::oid;
    owner CONSTANT oid := (SELECT relowner FROM pg_class WHERE oid = secrets);
    known record;
BEGIN
    REVOKE ALL ON TABLE cluster_secrets FROM PUBLIC;
    FOR known IN
        SELECT DISTINCT a.grantee::regrole::text AS name FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = secrets AND a.grantee NOT IN (0::oid, owner)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON TABLE cluster_secrets FROM %s', known.name);
    END LOOP;
    FOR known IN
        SELECT DISTINCT a.grantee::regrole::text AS name FROM pg_proc p, aclexplode(p.proacl) a
        WHERE p.oid = called AND a.privilege_type = 'EXECUTE'::text AND a.grantee NOT IN (0::oid, owner)
    LOOP
        EXECUTE pg_catalog.format('GRANT SELECT ON TABLE cluster_secrets TO %s', known.name);
    END LOOP;
END $$;
