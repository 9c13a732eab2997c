-- Deliveries of webhooks that wait to be made, or made again.

CREATE TABLE webhook_deliveries (
    id         uuid        NOT NULL PRIMARY KEY,
    -- JSON, as it is sent.
    body       text        NOT NULL,
    created_at timestamptz NOT NULL,
    -- When somebody may take it: now, after a pause, or when whoever has it must have lost it.
    due_at     timestamptz NOT NULL,
    attempts   integer     NOT NULL DEFAULT 0
);

CREATE INDEX webhook_deliveries_due_at ON webhook_deliveries (due_at, id);
