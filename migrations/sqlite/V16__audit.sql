-- The audit log: each administrative act, with the actor and what it changed. The server inserts the row before the act, and
-- sets the outcome after it: a row without an outcome is of an act whose server stopped in between.
CREATE TABLE audit (
    -- Version 7: the order of the ids is the order of time.
    id            TEXT NOT NULL PRIMARY KEY,
    created_at    TEXT NOT NULL,
    node          TEXT NOT NULL,
    -- `http`, `socket` or `command`.
    via           TEXT NOT NULL,
    -- The user whose credentials the server has checked. Null for commands on the database.
    user_id       TEXT,
    -- The name that the command line states, which nothing proves.
    stated_user   TEXT,
    address       TEXT,
    connection_id TEXT,
    operation     TEXT NOT NULL,
    target        TEXT,
    -- JSON objects without secrets and message texts.
    request       TEXT,
    state_before  TEXT,
    state_after   TEXT,
    outcome       TEXT,
    finished_at   TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_by_user ON audit (user_id, id);
