-- Login sessions, and what was revoked before it expired.

CREATE TABLE sessions (
    -- SHA-256 of the id in hexadecimal digits. The id itself is kept nowhere.
    id_hash    text        NOT NULL COLLATE "C" PRIMARY KEY,
    user_id    text        NOT NULL COLLATE "C",
    roles      text[]      NOT NULL,
    -- A JSON object, or nothing.
    data       text,
    -- How long a session lives that is not used.
    ttl_s      bigint      NOT NULL CHECK (ttl_s > 0),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

-- A user's sessions.
CREATE INDEX sessions_of_user ON sessions (user_id);

-- What can be forgotten.
CREATE INDEX sessions_by_end ON sessions (expires_at);

CREATE TABLE revocations (
    kind       text        NOT NULL COLLATE "C" CHECK (kind IN ('token', 'session', 'user', 'role')),
    -- The jti, the hash of the session's id, the user's id, the role.
    value      text        NOT NULL COLLATE "C",
    until      timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (kind, value)
);
