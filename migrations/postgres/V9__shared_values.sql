-- What the servers on this database share: values with versions, and locks with leases. All numbers come from one
-- sequence, so that no version and no number of a lock's holder ever comes again.

CREATE SEQUENCE shared_numbers AS bigint;

CREATE TABLE shared_values (
    key     text   NOT NULL COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    value   text   NOT NULL
);

-- One that nobody holds stays, so that a number is always drawn while its row is held.
CREATE TABLE shared_locks (
    name       text        NOT NULL COLLATE "C" PRIMARY KEY,
    fence      bigint      NOT NULL,
    holder     text        NOT NULL,
    expires_at timestamptz NOT NULL
);
