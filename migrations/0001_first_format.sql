-- The first format of the record.
--
-- Times are integer Unix milliseconds UTC (`_at_ms`), money is whole nano-USD (`_nanousd`), sizes are bytes (`_bytes`).
-- `attempt` is the ledger; the state, sums and error of a request are a cache of it, written in the same transaction.
-- Bodies and replies are zstd frames; `dictionary` holds what is needed to read those that name one.

CREATE TABLE migration (
    version         INTEGER PRIMARY KEY,
    name            TEXT NOT NULL,
    applied_at_ms   INTEGER NOT NULL,
    program_version TEXT NOT NULL
) STRICT;

CREATE TABLE project (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    token         TEXT NOT NULL CHECK (length(token) = 12),
    created_at_ms INTEGER NOT NULL,
    base_url      TEXT,
    max_attempts  INTEGER NOT NULL CHECK (max_attempts > 0)
) STRICT;

CREATE TABLE source (
    id          INTEGER PRIMARY KEY,
    path        TEXT NOT NULL,
    format      TEXT NOT NULL,
    encoding    TEXT NOT NULL,
    sha256      BLOB NOT NULL CHECK (length(sha256) = 32),
    bytes       INTEGER NOT NULL,
    columns     TEXT NOT NULL CHECK (json_valid(columns)),
    key_column  TEXT,
    rows        INTEGER NOT NULL,
    added_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE row (
    id            INTEGER PRIMARY KEY,
    source_id     INTEGER NOT NULL REFERENCES source (id),
    line          INTEGER NOT NULL,
    position      INTEGER NOT NULL,
    key           TEXT NOT NULL,
    version       INTEGER NOT NULL CHECK (version > 0),
    cells         TEXT NOT NULL,
    retired_at_ms INTEGER,
    retired_why   TEXT CHECK (retired_why IN ('changed', 'removed')),
    CHECK ((retired_at_ms IS NULL) = (retired_why IS NULL))
) STRICT;

CREATE UNIQUE INDEX row_live_key ON row (key) WHERE retired_at_ms IS NULL;
CREATE UNIQUE INDEX row_live_position ON row (position) WHERE retired_at_ms IS NULL;
CREATE INDEX row_live_source ON row (source_id) WHERE retired_at_ms IS NULL;
CREATE INDEX row_retired_key ON row (key) WHERE retired_at_ms IS NOT NULL;

CREATE TABLE prompt (
    id               INTEGER PRIMARY KEY,
    name             TEXT NOT NULL,
    version          INTEGER NOT NULL CHECK (version > 0),
    model            TEXT NOT NULL,
    endpoint         TEXT NOT NULL CHECK (endpoint IN ('chat/completions', 'responses')),
    source           TEXT NOT NULL,
    spec             TEXT NOT NULL CHECK (json_valid(spec)),
    created_at_ms    INTEGER NOT NULL,
    retired_at_ms    INTEGER,
    -- Since when the form of its answer is asked for in words, because the server takes no JSON Schema.
    in_words_from_ms INTEGER,
    UNIQUE (name, version)
) STRICT;

CREATE UNIQUE INDEX prompt_live_name ON prompt (name) WHERE retired_at_ms IS NULL;

CREATE TABLE dictionary (
    id        INTEGER PRIMARY KEY,
    prompt_id INTEGER NOT NULL REFERENCES prompt (id),
    kind      TEXT NOT NULL CHECK (kind IN ('body', 'reply')),
    bytes     BLOB NOT NULL
) STRICT;

CREATE TABLE run (
    id              INTEGER PRIMARY KEY,
    started_at_ms   INTEGER NOT NULL,
    ended_at_ms     INTEGER,
    ended           TEXT CHECK (ended IN ('done', 'some_failed', 'waiting', 'budget', 'deadline', 'interrupted', 'error', 'crashed')),
    error           TEXT,
    settings        TEXT NOT NULL CHECK (json_valid(settings)),
    process_id      INTEGER NOT NULL,
    host            TEXT NOT NULL,
    program_version TEXT NOT NULL,
    CHECK ((ended_at_ms IS NULL) = (ended IS NULL))
) STRICT;

CREATE TABLE batch (
    id               INTEGER PRIMARY KEY,
    run_id           INTEGER NOT NULL REFERENCES run (id),
    model            TEXT NOT NULL,
    endpoint         TEXT NOT NULL,
    token            TEXT NOT NULL UNIQUE,
    status           TEXT NOT NULL CHECK (status IN ('planned', 'uploading', 'uploaded', 'creating', 'created', 'validating',
                         'in_progress', 'finalizing', 'cancelling', 'completed', 'failed', 'expired', 'cancelled', 'collecting', 'collected')),
    requests         INTEGER NOT NULL,
    input_bytes      INTEGER NOT NULL,
    estimated_tokens INTEGER NOT NULL,
    input_file_id    TEXT,
    provider_id      TEXT,
    output_file_id   TEXT,
    error_file_id    TEXT,
    planned_at_ms    INTEGER NOT NULL,
    expires_at_ms    INTEGER,
    collected_at_ms  INTEGER
) STRICT;

CREATE TABLE batch_status (
    id       INTEGER PRIMARY KEY,
    batch_id INTEGER NOT NULL REFERENCES batch (id),
    at_ms    INTEGER NOT NULL,
    status   TEXT NOT NULL,
    reply    BLOB
) STRICT;

CREATE TABLE request (
    id                 INTEGER PRIMARY KEY,
    prompt_id          INTEGER NOT NULL REFERENCES prompt (id),
    row_id             INTEGER NOT NULL REFERENCES row (id),
    sample             INTEGER NOT NULL CHECK (sample > 0),
    fingerprint        BLOB CHECK (length(fingerprint) = 32),
    body               BLOB,
    body_dictionary_id INTEGER REFERENCES dictionary (id),
    body_bytes         INTEGER,
    state              TEXT NOT NULL CHECK (state IN ('pending', 'in_flight', 'in_batch', 'in_doubt', 'answered', 'truncated', 'failed')),
    error_class        TEXT,
    error              TEXT,
    attempt_id         INTEGER REFERENCES attempt (id),
    attempts           INTEGER NOT NULL DEFAULT 0,
    attempts_used      INTEGER NOT NULL DEFAULT 0,
    max_tokens         INTEGER,
    asked_at_ms        INTEGER,
    input_tokens       INTEGER NOT NULL DEFAULT 0,
    cached_tokens      INTEGER NOT NULL DEFAULT 0,
    output_tokens      INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens   INTEGER NOT NULL DEFAULT 0,
    cost_nanousd       INTEGER,
    UNIQUE (row_id, prompt_id, sample),
    CHECK ((state = 'failed') = (error_class IS NOT NULL)),
    CHECK ((fingerprint IS NULL) = (body IS NULL)),
    CHECK (state <> 'answered' OR attempt_id IS NOT NULL)
) STRICT;

-- Only the first bytes: enough to find a twin, a fraction of the size.
CREATE INDEX request_twin ON request (substr(fingerprint, 1, 8)) WHERE fingerprint IS NOT NULL;
-- What may still be due, and nothing of what is done.
CREATE INDEX request_open ON request (state, prompt_id) WHERE state <> 'answered';

CREATE TABLE attempt (
    id                  INTEGER PRIMARY KEY,
    request_id          INTEGER NOT NULL REFERENCES request (id),
    number              INTEGER NOT NULL CHECK (number > 0),
    run_id              INTEGER NOT NULL REFERENCES run (id),
    route               TEXT NOT NULL CHECK (route IN ('realtime', 'batch')),
    batch_id            INTEGER REFERENCES batch (id),
    max_tokens          INTEGER,
    body                BLOB,
    body_dictionary_id  INTEGER REFERENCES dictionary (id),
    promised_at_ms      INTEGER NOT NULL,
    settled_at_ms       INTEGER,
    outcome             TEXT CHECK (outcome IN ('answered', 'truncated', 'failed', 'in_doubt')),
    error_class         TEXT,
    error               TEXT,
    status_code         INTEGER,
    provider_request_id TEXT,
    served_model        TEXT,
    finish_reason       TEXT,
    input_tokens        INTEGER,
    cached_tokens       INTEGER,
    output_tokens       INTEGER,
    reasoning_tokens    INTEGER,
    cost_nanousd        INTEGER,
    answer              TEXT,
    reply               BLOB,
    reply_dictionary_id INTEGER REFERENCES dictionary (id),
    reply_bytes         INTEGER,
    UNIQUE (request_id, number),
    CHECK ((outcome IS NULL) = (settled_at_ms IS NULL)),
    CHECK ((outcome IS 'failed') = (error_class IS NOT NULL)),
    CHECK ((outcome IS 'answered') = (answer IS NOT NULL)),
    CHECK ((route = 'batch') = (batch_id IS NOT NULL))
) STRICT;

CREATE INDEX attempt_open ON attempt (request_id) WHERE outcome IS NULL;
CREATE INDEX attempt_of_batch ON attempt (batch_id) WHERE batch_id IS NOT NULL;

-- One line a live row and live prompt. Tokens and cost are sums over all attempts of the request; a request that shares
-- another one's reply has none of its own, so that sums over this view count nothing twice.
CREATE VIEW answers AS
SELECT row.position                            AS position,
       row.key                                 AS key,
       row.cells                               AS cells,
       prompt.name                             AS prompt,
       prompt.version                          AS prompt_version,
       coalesce(request.state, 'pending')      AS state,
       CASE WHEN request.state = 'answered' THEN attempt.answer END AS answer,
       attempt.finish_reason                   AS finish_reason,
       prompt.model                            AS model,
       attempt.route                           AS route,
       attempt.batch_id                        AS batch_id,
       attempt.provider_request_id             AS provider_request_id,
       request.input_tokens                    AS input_tokens,
       request.cached_tokens                   AS cached_tokens,
       request.output_tokens                   AS output_tokens,
       request.reasoning_tokens                AS reasoning_tokens,
       request.cost_nanousd / 1e9              AS cost_usd,
       coalesce(request.attempts, 0)           AS attempts,
       request.error_class                     AS error_class,
       CASE WHEN request.state = 'answered' THEN attempt.settled_at_ms END AS answered_at_ms
FROM row
CROSS JOIN prompt
LEFT JOIN request ON request.row_id = row.id AND request.prompt_id = prompt.id AND request.sample = 1
LEFT JOIN attempt ON attempt.id = request.attempt_id
WHERE row.retired_at_ms IS NULL AND prompt.retired_at_ms IS NULL
ORDER BY row.position, prompt.id;
