-- Events that services publish inside of their own transactions. Whoever shares the database adds a row, by the
-- functions below or by INSERT; every server emits it once, after the commit. See docs/publications.md.

CREATE TABLE publications (
    id           bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The transaction that wrote it. Ids are given out before a commit, and so in another order than that of commits.
    published_in xid8        NOT NULL DEFAULT pg_current_xact_id(),
    -- Who gets it: those in a room, the sockets of a user, everyone.
    target       text        NOT NULL CHECK (target IN ('room', 'user', 'everyone')),
    -- The room or the user.
    name         text        COLLATE "C",
    event        text        NOT NULL CONSTRAINT publications_event CHECK (
        char_length(event) BETWEEN 1 AND 128
        AND event NOT IN ('connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener')),
    -- The argument of the event; nothing: it has none.
    payload      jsonb       CONSTRAINT publications_payload CHECK (octet_length(payload::text) <= 65536),
    -- Whoever publishes twice under one key within a day publishes once.
    key          text        COLLATE "C" CONSTRAINT publications_key CHECK (char_length(key) BETWEEN 1 AND 255),
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Its place in the order in which every server emits; given by the first server that sees it, without a gap.
    position     bigint,
    numbered_at  timestamptz,
    -- Why no server emits it.
    refused      text,
    CONSTRAINT publications_name CHECK (CASE target
        WHEN 'room' THEN name IS NOT NULL AND octet_length(name) BETWEEN 1 AND 256
            AND name NOT LIKE 'conversation:%'
        WHEN 'user' THEN name IS NOT NULL AND char_length(name) BETWEEN 1 AND 128
        ELSE name IS NULL END)
);

CREATE UNIQUE INDEX publications_in_order ON publications (position) WHERE position IS NOT NULL;
CREATE INDEX publications_waiting ON publications (published_in, id) WHERE position IS NULL;
CREATE INDEX publications_refused ON publications (position) WHERE refused IS NOT NULL;

-- Keys that were used, for a day.
CREATE TABLE publication_keys (
    key     text        NOT NULL COLLATE "C" PRIMARY KEY,
    used_at timestamptz NOT NULL
);

CREATE INDEX publication_keys_used_at ON publication_keys (used_at);

-- One row: how far publications are numbered.
CREATE TABLE publication_head (
    only_row  boolean     NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    position  bigint      NOT NULL DEFAULT 0,
    -- The transactions whose publications have their numbers; nothing: nobody knows.
    known     pg_snapshot,
    -- When all publications were looked at, and not only those that `known` does not show.
    looked_at timestamptz NOT NULL DEFAULT '-infinity'
);

INSERT INTO publication_head DEFAULT VALUES;

-- How far servers have come that have a name.
CREATE TABLE publication_nodes (
    node     text        NOT NULL COLLATE "C" PRIMARY KEY,
    position bigint      NOT NULL,
    told_at  timestamptz NOT NULL
);

SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- A row whose key was used within a day is left out. Of two transactions with one key the second waits for the first.
CREATE FUNCTION roomcast_use_publication_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ BEGIN
        INSERT INTO publication_keys AS k (key, used_at) VALUES (NEW.key, clock_timestamp())
            ON CONFLICT (key) DO UPDATE SET used_at = excluded.used_at
            WHERE k.used_at < excluded.used_at - interval '24 hours';
        IF FOUND THEN RETURN NEW; END IF;
        RETURN NULL;
    END $$;

CREATE TRIGGER publications_use_key BEFORE INSERT ON publications
    FOR EACH ROW WHEN (NEW.key IS NOT NULL) EXECUTE FUNCTION roomcast_use_publication_key();

-- What services call. Each returns the id of the publication, or nothing if its key was used before. The functions act as
-- their owner, so that a service needs no more than the right to call them; and nobody has that from the start.

CREATE FUNCTION roomcast_publish(room text, event text, payload jsonb DEFAULT NULL, key text DEFAULT NULL)
    RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ INSERT INTO publications (target, name, event, payload, key) VALUES ('room', $1, $2, $3, $4) RETURNING id $$;

CREATE FUNCTION roomcast_publish_to_user(user_id text, event text, payload jsonb DEFAULT NULL, key text DEFAULT NULL)
    RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ INSERT INTO publications (target, name, event, payload, key) VALUES ('user', $1, $2, $3, $4) RETURNING id $$;

CREATE FUNCTION roomcast_publish_to_everyone(event text, payload jsonb DEFAULT NULL, key text DEFAULT NULL)
    RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ INSERT INTO publications (target, event, payload, key) VALUES ('everyone', $1, $2, $3) RETURNING id $$;

REVOKE ALL ON FUNCTION roomcast_publish(text, text, jsonb, text),
    roomcast_publish_to_user(text, text, jsonb, text), roomcast_publish_to_everyone(text, jsonb, text) FROM PUBLIC;

-- What servers call: gives publications that are committed their places, at most so many, and returns the last place that
-- is given. One server does it at a time, and the others do not wait. What `known` does not show was written by a
-- transaction that was under way then, or began later; now and then all are looked at, since transactions of a database that
-- was restored have numbers that mean nothing.
CREATE FUNCTION roomcast_number_publications(most integer) RETURNS bigint
    LANGUAGE plpgsql SET search_path FROM CURRENT
    AS $$
DECLARE
    over_now pg_snapshot := pg_current_snapshot();
    head publication_head;
    looks_at_all boolean;
    waiting bigint[];
    given bigint;
BEGIN
    SELECT * INTO head FROM publication_head;
    looks_at_all := head.known IS NULL OR head.looked_at < clock_timestamp() - interval '1 minute'
        OR pg_snapshot_xmax(head.known) > pg_snapshot_xmax(over_now);
    IF looks_at_all THEN
        SELECT array_agg(id) INTO waiting FROM (
            SELECT p.id FROM publications p WHERE p.position IS NULL ORDER BY p.id LIMIT most) AS w;
    ELSE
        SELECT array_agg(id) INTO waiting FROM (
            SELECT p.id FROM publications p
                WHERE p.position IS NULL AND p.published_in >= pg_snapshot_xmax(head.known)
            UNION ALL
            SELECT p.id FROM pg_snapshot_xip(head.known) AS under_way (xid)
                JOIN publications p ON p.position IS NULL AND p.published_in = under_way.xid
            ORDER BY id LIMIT most) AS w;
    END IF;
    IF waiting IS NULL AND NOT looks_at_all THEN
        RETURN head.position;
    END IF;
    SELECT * INTO head FROM publication_head FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN (SELECT h.position FROM publication_head h);
    END IF;
    WITH places AS MATERIALIZED (
        SELECT p.id, row_number() OVER (ORDER BY p.id) AS place
        FROM publications p WHERE p.id = ANY (waiting) AND p.position IS NULL),
    numbered AS (
        UPDATE publications p SET position = head.position + places.place, numbered_at = clock_timestamp()
        FROM places WHERE p.id = places.id RETURNING 1)
    SELECT count(*) INTO given FROM numbered;
    UPDATE publication_head h SET
        position = head.position + given,
        known = CASE WHEN coalesce(cardinality(waiting), 0) < most THEN over_now ELSE h.known END,
        looked_at = CASE WHEN looks_at_all THEN clock_timestamp() ELSE h.looked_at END;
    RETURN head.position + given;
END $$;
