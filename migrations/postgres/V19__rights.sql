-- The right to connect to the database gives no right to anything of Roomcast. `docs/security.md`
-- states who may do what. PostgreSQL lets PUBLIC execute each new function, and no default
-- privilege of a schema can change that: each later migration revokes the rights to what it makes.
--
-- Up to PostgreSQL 14 every role may create functions and operators in the schema `public`. So
-- arguments have exactly the types of those that are meant, here and in the functions that act as
-- their owner: no others are found.

SELECT pg_catalog.set_config('search_path', pg_catalog.quote_ident(current_schema()::text) || ', pg_temp', true);

REVOKE ALL ON FUNCTION
    roomcast_append(text, text, text, text, boolean, text, timestamptz, timestamptz, boolean, bigint),
    roomcast_drop_annotations(),
    roomcast_note_added(),
    roomcast_note_change(),
    roomcast_note_closed(),
    roomcast_note_removed(),
    roomcast_note_title(),
    roomcast_note_version(),
    roomcast_number_publications(integer),
    roomcast_publish(text, text, jsonb, text),
    roomcast_publish_to_everyone(text, jsonb, text),
    roomcast_publish_to_user(text, text, jsonb, text),
    roomcast_replace(text, text[], text[], timestamptz, bigint),
    roomcast_take_annotation(uuid, uuid, integer, text),
    roomcast_take_change(uuid, text, uuid, integer, text),
    roomcast_tell_block(),
    roomcast_tell_change(),
    roomcast_tell_conversation(),
    roomcast_tell_journal(),
    roomcast_tell_revocation(),
    roomcast_tell_table(),
    roomcast_use_publication_key(),
    roomcast_words(text)
    FROM PUBLIC;

-- Only an operator can have given these to PUBLIC, by a statement or by default privileges.
REVOKE ALL ON TABLE
    api_keys, blocks, changes, changes_kept, conversation_changes, conversations, invites, journal_entries, journals,
    members, message_emojis, message_reactions, message_versions, messages, nodes, notification_levels, pins, presences,
    publication_head, publication_keys, publication_nodes, publications, reads, revocations, roomcast_schema, sessions,
    shared_locks, shared_values, webhook_deliveries
    FROM PUBLIC;

REVOKE ALL ON SEQUENCE changes_id_seq, publications_id_seq, shared_numbers FROM PUBLIC;

-- What servers call acts as its caller: a role that may execute it can do no more than its rights
-- to the tables allow.
ALTER FUNCTION roomcast_append(text, text, text, text, boolean, text, timestamptz, timestamptz, boolean, bigint)
    SECURITY INVOKER;
ALTER FUNCTION roomcast_take_annotation(uuid, uuid, integer, text) SECURITY INVOKER;
ALTER FUNCTION roomcast_take_change(uuid, text, uuid, integer, text) SECURITY INVOKER;

CREATE OR REPLACE FUNCTION roomcast_replace(
    of_journal text, of_keys text[], new_bodies text[], made_at timestamptz, most_open bigint
) RETURNS bigint[] LANGUAGE plpgsql SECURITY INVOKER SET search_path FROM CURRENT AS $$
DECLARE
    revisions bigint[] := '{}';
    appended record;
    last bigint;
BEGIN
    FOR i IN 1 .. pg_catalog.cardinality(of_keys) LOOP
        SELECT a.outcome, a.revision INTO appended FROM roomcast_append(
            of_journal, of_keys[i], new_bodies[i], NULL::text, true, 'remove'::text, made_at, NULL::timestamptz,
            false, most_open) a;
        IF appended.outcome = 'stored' THEN
            last := appended.revision;
            revisions[i] := last;
        ELSE
            revisions[i] := 0;
        END IF;
    END LOOP;
    IF last IS NOT NULL THEN
        INSERT INTO changes (topic, key) VALUES ('journals', last::text || ':' || of_journal);
    END IF;
    RETURN revisions;
END $$;

-- Servers whose role does not own the tables keep what they had until now: PUBLIC could execute
-- these functions, and they acted as their owner. A role is a server's if it may insert messages
-- and count them. Others that may read or write messages may need `roomcast_words`, which an index
-- on messages uses.
DO $$
DECLARE
    messages CONSTANT oid := 'messages'::regclass;
    conversations CONSTANT oid := 'conversations'::regclass;
    owner CONSTANT oid := (SELECT relowner FROM pg_class WHERE oid = 'messages'::regclass::oid);
    known record;
    lacking record;
BEGIN
    FOR known IN
        WITH held AS (
            SELECT c.oid AS relation, a.grantee, a.privilege_type AS privilege
            FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid IN (messages, conversations)
            UNION ALL
            SELECT c.attrelid, a.grantee, a.privilege_type
            FROM pg_attribute c, aclexplode(c.attacl) a WHERE c.attrelid IN (messages, conversations)
        ),
        granted AS (
            SELECT grantee AS role,
                bool_or(relation = messages AND privilege IN ('SELECT', 'INSERT', 'UPDATE')) AS needs_words,
                bool_or(relation = messages AND privilege = 'INSERT')
                    AND bool_or(relation = conversations AND privilege = 'UPDATE') AS is_server
            FROM held WHERE grantee <> 0 GROUP BY grantee
        ),
        -- Rights that come from several groups, or from pg_read_all_data and pg_write_all_data. The
        -- members of one group that has all of them get what the group gets, and lose it with their
        -- membership.
        able AS (
            SELECT r.oid AS role,
                has_any_column_privilege(r.oid, messages, 'SELECT, INSERT, UPDATE') AS needs_words,
                has_any_column_privilege(r.oid, messages, 'INSERT')
                    AND has_any_column_privilege(r.oid, conversations, 'UPDATE') AS is_server
            FROM pg_roles r WHERE r.rolcanlogin
        ),
        roles AS (
            SELECT role, needs_words, is_server FROM granted
            UNION ALL
            SELECT a.role,
                a.needs_words AND NOT EXISTS (
                    SELECT FROM granted g WHERE g.needs_words AND pg_has_role(a.role, g.role, 'USAGE')),
                a.is_server AND NOT EXISTS (
                    SELECT FROM granted g WHERE g.is_server AND pg_has_role(a.role, g.role, 'USAGE'))
            FROM able a
        )
        SELECT role, role::regrole::text AS name, needs_words, is_server FROM roles
        -- This leaves out superusers too.
        WHERE (needs_words OR is_server) AND NOT pg_has_role(role, owner, 'USAGE')
    LOOP
        IF known.needs_words THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION roomcast_words(text) TO %s', known.name);
        END IF;
        IF known.is_server THEN
            EXECUTE pg_catalog.format(
                'GRANT EXECUTE ON FUNCTION
                     roomcast_append(text, text, text, text, boolean, text, timestamptz, timestamptz, boolean, bigint),
                     roomcast_number_publications(integer),
                     roomcast_replace(text, text[], text[], timestamptz, bigint),
                     roomcast_take_annotation(uuid, uuid, integer, text),
                     roomcast_take_change(uuid, text, uuid, integer, text) TO %s',
                known.name);
            FOR lacking IN
                SELECT relation, privilege FROM (VALUES
                    ('changes', 'INSERT'),
                    ('conversation_changes', 'SELECT'), ('conversation_changes', 'INSERT'),
                    ('conversation_changes', 'UPDATE'), ('conversation_changes', 'DELETE'),
                    ('journal_entries', 'SELECT'), ('journal_entries', 'INSERT'),
                    ('journal_entries', 'UPDATE'), ('journal_entries', 'DELETE'),
                    ('journals', 'SELECT'), ('journals', 'INSERT'), ('journals', 'UPDATE'),
                    ('publication_keys', 'UPDATE'), ('roomcast_schema', 'UPDATE')
                ) AS needed (relation, privilege)
                WHERE NOT has_table_privilege(known.role, relation, privilege)
            LOOP
                EXECUTE pg_catalog.format('GRANT %s ON %I TO %s', lacking.privilege, lacking.relation, known.name);
            END LOOP;
        END IF;
    END LOOP;
END $$;

-- The functions of triggers act as their owner, so that servers need no right to what they write.
-- PostgreSQL asks for the right to execute them only when a trigger is made: one that was made
-- before this migration is refused when it runs.

CREATE OR REPLACE FUNCTION roomcast_tell_revocation() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'revocations'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_tell_revocation is for the table revocations only';
        END IF;
        INSERT INTO changes (topic, key)
            SELECT DISTINCT 'revocations', kind || ':' || value
            FROM (VALUES (OLD.kind, OLD.value), (NEW.kind, NEW.value)) AS entries (kind, value)
            WHERE kind IS NOT NULL;
        RETURN NULL;
    END $$;

CREATE OR REPLACE FUNCTION roomcast_tell_block() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'blocks'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_tell_block is for the table blocks only';
        END IF;
        INSERT INTO changes (topic, key)
            SELECT DISTINCT 'blocks', id::text
            FROM (VALUES (OLD.id), (NEW.id)) AS entries (id) WHERE id IS NOT NULL;
        RETURN NULL;
    END $$;

CREATE OR REPLACE FUNCTION roomcast_tell_table() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID NOT IN ('revocations'::regclass::oid, 'blocks'::regclass::oid) THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_tell_table is for the tables revocations and blocks only';
        END IF;
        INSERT INTO changes (topic) VALUES (TG_TABLE_NAME);
        RETURN NULL;
    END $$;

CREATE OR REPLACE FUNCTION roomcast_note_version() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'message_versions'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_note_version is for the table message_versions only';
        END IF;
        PERFORM roomcast_take_change(m.conversation_id,
                CASE WHEN m.deleted_at IS NULL THEN 'edited'::text ELSE 'deleted' END,
                m.id, m.version, NEW.replaced_by)
            FROM messages m WHERE m.id = NEW.message_id;
        RETURN NULL;
    END $$;

CREATE OR REPLACE FUNCTION roomcast_note_title() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'conversations'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_note_title is for the table conversations only';
        END IF;
        PERFORM roomcast_take_change(NEW.id, 'renamed'::text, NULL::uuid, NULL::integer, NULL::text);
        RETURN NULL;
    END $$;

CREATE OR REPLACE FUNCTION roomcast_note_added() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'members'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_note_added is for the table members only';
        END IF;
        PERFORM roomcast_take_change(a.conversation_id, 'added'::text, NULL::uuid, NULL::integer, a.user_id)
            FROM added a JOIN conversations c ON c.id = a.conversation_id
            WHERE a.joined_at <> c.created_at;
        RETURN NULL;
    END $$;

CREATE OR REPLACE FUNCTION roomcast_note_removed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'members'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_note_removed is for the table members only';
        END IF;
        PERFORM roomcast_take_change(r.conversation_id, 'removed'::text, NULL::uuid, NULL::integer, r.user_id)
            FROM removed r JOIN conversations c ON c.id = r.conversation_id
            WHERE c.deleted_at IS NULL;
        RETURN NULL;
    END $$;

CREATE OR REPLACE FUNCTION roomcast_note_closed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'conversations'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_note_closed is for the table conversations only';
        END IF;
        PERFORM roomcast_take_change(NEW.id, 'closed'::text, NULL::uuid, NULL::integer, NEW.deleted_by);
        UPDATE conversation_changes SET member_ids =
                (SELECT pg_catalog.array_agg(user_id) FROM members WHERE conversation_id = NEW.id)
            WHERE conversation_id = NEW.id AND kind = 'closed';
        RETURN NULL;
    END $$;

CREATE OR REPLACE FUNCTION roomcast_tell_conversation() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'conversations'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_tell_conversation is for the table conversations only';
        END IF;
        INSERT INTO changes (topic, key) VALUES ('conversations', NEW.id::text);
        RETURN NULL;
    END $$;

CREATE OR REPLACE FUNCTION roomcast_tell_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'conversation_changes'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_tell_change is for the table conversation_changes only';
        END IF;
        INSERT INTO changes (topic, key) VALUES
            ('conversations', NEW.conversation_id::text || ':' || NEW.number::text || ':' || NEW.seq::text);
        RETURN NULL;
    END $$;

CREATE OR REPLACE FUNCTION roomcast_tell_journal() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'journal_entries'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_tell_journal is for the table journal_entries only';
        END IF;
        INSERT INTO changes (topic, key) VALUES ('journals', NEW.revision::text || ':' || NEW.journal);
        RETURN NULL;
    END $$;

CREATE OR REPLACE FUNCTION roomcast_drop_annotations() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'messages'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_drop_annotations is for the table messages only';
        END IF;
        DELETE FROM message_emojis WHERE message_id = NEW.id;
        DELETE FROM pins WHERE message_id = NEW.id;
        RETURN NULL;
    END $$;

CREATE OR REPLACE FUNCTION roomcast_use_publication_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        IF TG_RELID <> 'publications'::regclass::oid THEN
            RAISE insufficient_privilege
                USING MESSAGE = 'roomcast_use_publication_key is for the table publications only';
        END IF;
        INSERT INTO publication_keys AS k (key, used_at) VALUES (NEW.key, clock_timestamp())
            ON CONFLICT (key) DO UPDATE SET used_at = excluded.used_at
            WHERE k.used_at < excluded.used_at - interval '24 hours';
        IF FOUND THEN RETURN NEW; END IF;
        RETURN NULL;
    END $$;
