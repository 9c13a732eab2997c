-- The secrets with which servers seal what they send each other through the adapter, where `adapter.secret` is not
-- configured. The first seals, all open. A server makes the first one, from random bytes of its operating system: see
-- docs/cluster.md.

SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE TABLE cluster_secrets (
    -- The order: the lowest seals.
    position integer     NOT NULL PRIMARY KEY,
    secret   bytea       NOT NULL UNIQUE CONSTRAINT cluster_secrets_length CHECK (octet_length(secret) BETWEEN 32 AND 1024),
    made_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Default privileges may have given the new table to others, such as roles for reports: servers alone read it. A role
-- is a server's if it may insert messages and count them; it may read the secrets, and neither replace nor remove them.
DO $$
DECLARE
    owner CONSTANT oid := (SELECT relowner FROM pg_class WHERE oid = 'cluster_secrets'::regclass);
    known record;
BEGIN
    FOR known IN
        SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = 'cluster_secrets'::regclass AND a.grantee <> owner
    LOOP
        IF known.grantee = 0 THEN
            REVOKE ALL ON TABLE cluster_secrets FROM PUBLIC;
        ELSE
            EXECUTE format('REVOKE ALL ON TABLE cluster_secrets FROM %s', known.grantee::regrole);
        END IF;
    END LOOP;
    FOR known IN
        SELECT a.grantee FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid IN ('messages'::regclass, 'conversations'::regclass) AND a.grantee NOT IN (0, owner)
        GROUP BY a.grantee
        HAVING bool_or(c.oid = 'messages'::regclass AND a.privilege_type = 'INSERT')
            AND bool_or(c.oid = 'conversations'::regclass AND a.privilege_type = 'UPDATE')
    LOOP
        EXECUTE format('GRANT SELECT ON TABLE cluster_secrets TO %s', known.grantee::regrole);
    END LOOP;
END $$;
