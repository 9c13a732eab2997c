-- Login sessions, and what was revoked before it expired.

CREATE TABLE sessions (
    -- SHA-256 of the id in hexadecimal digits. The id itself is kept nowhere.
    id_hash    TEXT    NOT NULL PRIMARY KEY,
    user_id    TEXT    NOT NULL,
    -- A JSON array of texts.
    roles      TEXT    NOT NULL,
    -- A JSON object, or nothing.
    data       TEXT,
    -- How long a session lives that is not used.
    ttl_s      INTEGER NOT NULL CHECK (ttl_s > 0),
    created_at TEXT    NOT NULL,
    expires_at TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- A user's sessions.
CREATE INDEX sessions_of_user ON sessions (user_id);

-- What can be forgotten.
CREATE INDEX sessions_by_end ON sessions (expires_at);

CREATE TABLE revocations (
    kind       TEXT    NOT NULL CHECK (kind IN ('token', 'session', 'user', 'role')),
    -- The jti, the hash of the session's id, the user's id, the role.
    value      TEXT    NOT NULL,
    until      TEXT    NOT NULL,
    created_at TEXT    NOT NULL,
    PRIMARY KEY (kind, value)
) STRICT, WITHOUT ROWID;
