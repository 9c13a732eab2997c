-- Deliveries of webhooks that wait to be made, or made again.

CREATE TABLE webhook_deliveries (
    id         TEXT    NOT NULL PRIMARY KEY,
    -- JSON, as it is sent.
    body       TEXT    NOT NULL,
    created_at TEXT    NOT NULL,
    -- When somebody may take it: now, after a pause, or when whoever has it must have lost it.
    due_at     TEXT    NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX webhook_deliveries_due_at ON webhook_deliveries (due_at, id);
