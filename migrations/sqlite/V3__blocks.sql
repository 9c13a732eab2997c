-- Networks that are shut out. Those of the configuration are not here.

CREATE TABLE blocks (
    id         TEXT NOT NULL PRIMARY KEY,
    cidr       TEXT NOT NULL UNIQUE,
    reason     TEXT NOT NULL,
    source     TEXT NOT NULL CHECK (source IN ('admin', 'automatic')),
    created_at TEXT NOT NULL,
    -- Nothing: for good.
    expires_at TEXT
) STRICT, WITHOUT ROWID;
