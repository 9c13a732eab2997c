-- Networks that are shut out. Those of the configuration are not here.

CREATE TABLE blocks (
    id         uuid        NOT NULL PRIMARY KEY,
    cidr       text        NOT NULL COLLATE "C" UNIQUE,
    reason     text        NOT NULL,
    source     text        NOT NULL CHECK (source IN ('admin', 'automatic')),
    created_at timestamptz NOT NULL,
    -- Nothing: for good.
    expires_at timestamptz
);
