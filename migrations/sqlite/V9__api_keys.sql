-- Requests to the HTTP API that name a key, and how they were answered, so that one that is sent again is not done
-- again.

CREATE TABLE api_keys (
    -- A hash of the caller and its key.
    key          TEXT NOT NULL PRIMARY KEY,
    -- A hash of what is asked for.
    request      TEXT NOT NULL,
    -- Tells attempts under one key from one another.
    attempt      TEXT NOT NULL,
    -- Until when an attempt without an answer counts as being made.
    locked_until TEXT NOT NULL,
    expires_at   TEXT NOT NULL,
    status       INTEGER,
    -- Nothing: it is not kept.
    body         TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX api_keys_expires_at ON api_keys (expires_at);
