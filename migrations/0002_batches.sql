-- Batches: where each one is, how it ended, and what came back that no request waits for.

-- The base URL that the batch was sent to, or `embedded` for the simulator in the program itself.
ALTER TABLE batch ADD COLUMN server TEXT NOT NULL DEFAULT '';
-- How it ended at the provider; stays when it goes on to be collected.
ALTER TABLE batch ADD COLUMN ended TEXT CHECK (ended IN ('completed', 'failed', 'expired', 'cancelled'));
-- Why it was refused, failed or dropped, in one line.
ALTER TABLE batch ADD COLUMN error TEXT;
-- When the provider's id was put on record.
ALTER TABLE batch ADD COLUMN created_at_ms INTEGER;
-- The provider's own counts at the last look; shown, never trusted.
ALTER TABLE batch ADD COLUMN seen_at_ms INTEGER;
ALTER TABLE batch ADD COLUMN completed_requests INTEGER;
ALTER TABLE batch ADD COLUMN failed_requests INTEGER;

-- Where an attempt's line stood among the results, lines counted from 1.
ALTER TABLE attempt ADD COLUMN result_file TEXT CHECK (result_file IN ('output', 'error'));
ALTER TABLE attempt ADD COLUMN result_line INTEGER;

-- Lines of result files that settle no attempt: kept, because they may have been paid for.
CREATE TABLE stray_line (
    id          INTEGER PRIMARY KEY,
    batch_id    INTEGER NOT NULL REFERENCES batch (id),
    file        TEXT NOT NULL CHECK (file IN ('output', 'error')),
    number      INTEGER NOT NULL CHECK (number > 0),
    why         TEXT NOT NULL CHECK (why IN ('garbled', 'unknown', 'doubled')),
    reply       BLOB NOT NULL,
    reply_bytes INTEGER NOT NULL,
    found_at_ms INTEGER NOT NULL,
    UNIQUE (batch_id, file, number)
) STRICT;

-- The tokens that a provider lets wait in its queue for a model, learned from its own refusals.
CREATE TABLE queue_limit (
    server        TEXT NOT NULL,
    model         TEXT NOT NULL,
    tokens        INTEGER NOT NULL CHECK (tokens > 0),
    learned_at_ms INTEGER NOT NULL,
    PRIMARY KEY (server, model)
) STRICT;
