-- Requests to the HTTP API that name a key, and how they were answered, so that one that is sent again is not done
-- again.

CREATE TABLE api_keys (
    -- A hash of the caller and its key.
    key          text        NOT NULL COLLATE "C" PRIMARY KEY,
    -- A hash of what is asked for.
    request      text        NOT NULL,
    -- Tells attempts under one key from one another.
    attempt      uuid        NOT NULL,
    -- Until when an attempt without an answer counts as being made.
    locked_until timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    status       integer,
    -- Nothing: it is not kept.
    body         text
);

CREATE INDEX api_keys_expires_at ON api_keys (expires_at);
