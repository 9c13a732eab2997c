-- What services publish: trades, signals, portfolios, notifications. A journal is one matter, such as the trades of
-- one user. Each of its entries has the next revision.

CREATE TABLE journals (
    name     TEXT    NOT NULL PRIMARY KEY,
    -- Of the last entry. It never goes back, also when entries are removed.
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE journal_entries (
    journal    TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    -- What it is about; of all entries of one key the last is current.
    key        TEXT    NOT NULL,
    -- JSON, as the server wrote it.
    body       TEXT    NOT NULL,
    -- A part of the journal that can be read by itself, such as a channel of signals.
    category   TEXT,
    -- Whether it may be followed by another one of its key: a closed entry is final.
    is_open    INTEGER NOT NULL,
    is_current INTEGER NOT NULL DEFAULT 1,
    created_at TEXT    NOT NULL,
    expires_at TEXT,
    PRIMARY KEY (journal, revision)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX journal_entries_current ON journal_entries (journal, key) WHERE is_current;

-- The newest of a category.
CREATE INDEX journal_entries_by_category ON journal_entries (journal, category, revision)
    WHERE is_current AND category IS NOT NULL;

CREATE INDEX journal_entries_open ON journal_entries (journal, revision) WHERE is_current AND is_open;

-- What can be forgotten.
CREATE INDEX journal_entries_replaced ON journal_entries (created_at) WHERE NOT is_current;
CREATE INDEX journal_entries_closed ON journal_entries (created_at) WHERE is_current AND NOT is_open;
CREATE INDEX journal_entries_by_end ON journal_entries (expires_at) WHERE expires_at IS NOT NULL;
