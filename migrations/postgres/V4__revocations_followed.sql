-- Servers find what others have revoked since they looked last by the transaction that wrote it. A
-- trigger notes it, since servers of the version before write here without knowing of the column.

ALTER TABLE revocations ADD COLUMN changed_in bigint NOT NULL DEFAULT 0;

CREATE INDEX revocations_by_change ON revocations (changed_in);

CREATE FUNCTION roomcast_note_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN NEW.changed_in := pg_current_xact_id()::text::bigint; RETURN NEW; END $$;

CREATE TRIGGER revocations_note_change BEFORE INSERT OR UPDATE ON revocations
    FOR EACH ROW EXECUTE FUNCTION roomcast_note_change();
