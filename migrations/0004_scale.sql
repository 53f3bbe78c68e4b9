-- Scale: what has to be known of a million rows is kept as it changes, and a row is written with less work.

-- A CHECK with IN over more than two words builds a table of them for every row that is written. The same words, one by one;
-- nothing that is on record changes by it. An attempt may come on record just before its request, in the same transaction.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql,
    'CHECK (state IN (''pending'', ''in_flight'', ''in_batch'', ''in_doubt'', ''answered'', ''truncated'', ''failed''))',
    'CHECK (state = ''pending'' OR state = ''in_flight'' OR state = ''in_batch'' OR state = ''in_doubt'' OR state = ''answered''
                                       OR state = ''truncated'' OR state = ''failed'')')
WHERE type = 'table' AND name = 'request';
UPDATE sqlite_schema SET sql = replace(replace(sql,
    'CHECK (outcome IN (''answered'', ''truncated'', ''failed'', ''in_doubt''))',
    'CHECK (outcome = ''answered'' OR outcome = ''truncated'' OR outcome = ''failed'' OR outcome = ''in_doubt'')'),
    'REFERENCES request (id)',
    'REFERENCES request (id) DEFERRABLE INITIALLY DEFERRED')
WHERE type = 'table' AND name = 'attempt';
UPDATE sqlite_schema SET sql = replace(replace(sql,
    'CHECK (ended IN (''completed'', ''failed'', ''expired'', ''cancelled''))',
    'CHECK (ended = ''completed'' OR ended = ''failed'' OR ended = ''expired'' OR ended = ''cancelled'')'),
    'CHECK (status IN (''planned'', ''uploading'', ''uploaded'', ''creating'', ''created'', ''validating'',
                         ''in_progress'', ''finalizing'', ''cancelling'', ''completed'', ''failed'', ''expired'', ''cancelled'', ''collecting'', ''collected''))',
    'CHECK (status = ''planned'' OR status = ''uploading'' OR status = ''uploaded'' OR status = ''creating'' OR status = ''created''
                         OR status = ''validating'' OR status = ''in_progress'' OR status = ''finalizing'' OR status = ''cancelling''
                         OR status = ''completed'' OR status = ''failed'' OR status = ''expired'' OR status = ''cancelled''
                         OR status = ''collecting'' OR status = ''collected'')')
WHERE type = 'table' AND name = 'batch';
PRAGMA writable_schema = RESET;

-- Whether a request stands on another one's attempt.
ALTER TABLE request ADD COLUMN is_lent INTEGER NOT NULL DEFAULT 0;
UPDATE request SET is_lent = 1
WHERE attempt_id IS NOT NULL AND (SELECT request_id FROM attempt WHERE attempt.id = request.attempt_id) <> id;
CREATE INDEX request_lent ON request (attempt_id) WHERE is_lent = 1;

-- Every live row up to this one has a request for the prompt. Where it is too low, a run looks at more rows than it has to.
ALTER TABLE prompt ADD COLUMN asked_upto INTEGER NOT NULL DEFAULT 0;

-- How many requests of a prompt stand in a state, those of rows that have left included. Written in the transaction that
-- moves them; a failure's class is '' elsewhere.
CREATE TABLE request_count (
    prompt_id   INTEGER NOT NULL REFERENCES prompt (id),
    state       TEXT NOT NULL,
    error_class TEXT NOT NULL,
    requests    INTEGER NOT NULL,
    PRIMARY KEY (prompt_id, state, error_class)
) STRICT;

INSERT INTO request_count (prompt_id, state, error_class, requests)
SELECT prompt_id, state, coalesce(error_class, ''), count(*) FROM request GROUP BY 1, 2, 3;

-- What a prompt's attempts add up to: those of a batch, or, as batch 0, those that were calls. Written in the transaction
-- that promises or settles them. `held` is set aside and not known to be a cost; of it, `open` is for attempts under way and
-- `perhaps` for those that ended without anybody knowing whether they were billed. `unreserved` are attempts that may be
-- billed and have neither a cost nor anything set aside; of them, `untold` are those whose tokens nobody has told.
CREATE TABLE attempt_sum (
    prompt_id                     INTEGER NOT NULL REFERENCES prompt (id),
    batch_id                      INTEGER NOT NULL,
    attempts                      INTEGER NOT NULL,
    answered                      INTEGER NOT NULL,
    unpriced                      INTEGER NOT NULL,
    input_tokens                  INTEGER NOT NULL,
    cached_tokens                 INTEGER NOT NULL,
    cache_write_tokens            INTEGER NOT NULL,
    output_tokens                 INTEGER NOT NULL,
    reasoning_tokens              INTEGER NOT NULL,
    cost_nanousd                  INTEGER NOT NULL,
    held_nanousd                  INTEGER NOT NULL,
    open_nanousd                  INTEGER NOT NULL,
    perhaps                       INTEGER NOT NULL,
    perhaps_nanousd               INTEGER NOT NULL,
    unreserved                    INTEGER NOT NULL,
    unreserved_input_tokens       INTEGER NOT NULL,
    unreserved_cached_tokens      INTEGER NOT NULL,
    unreserved_cache_write_tokens INTEGER NOT NULL,
    unreserved_output_tokens      INTEGER NOT NULL,
    unreserved_reasoning_tokens   INTEGER NOT NULL,
    untold                        INTEGER NOT NULL,
    untold_body_bytes             INTEGER NOT NULL,
    untold_max_tokens             INTEGER NOT NULL,
    untold_unlimited              INTEGER NOT NULL,
    PRIMARY KEY (prompt_id, batch_id)
) STRICT;

INSERT INTO attempt_sum
SELECT prompt_id, batch, count(*),
       coalesce(sum(outcome = 'answered'), 0),
       coalesce(sum(cost_nanousd IS NULL AND (input_tokens IS NOT NULL OR outcome = 'answered' OR outcome = 'truncated')), 0),
       coalesce(sum(input_tokens), 0), coalesce(sum(cached_tokens), 0), coalesce(sum(cache_write_tokens), 0),
       coalesce(sum(output_tokens), 0), coalesce(sum(reasoning_tokens), 0),
       coalesce(sum(cost_nanousd), 0),
       coalesce(sum(CASE WHEN cost_nanousd IS NULL THEN reserved_nanousd END), 0),
       coalesce(sum(CASE WHEN outcome IS NULL THEN reserved_nanousd END), 0),
       coalesce(sum(is_perhaps), 0),
       coalesce(sum(CASE WHEN is_perhaps THEN reserved_nanousd END), 0),
       coalesce(sum(is_unreserved), 0),
       coalesce(sum(CASE WHEN is_unreserved THEN input_tokens END), 0),
       coalesce(sum(CASE WHEN is_unreserved THEN cached_tokens END), 0),
       coalesce(sum(CASE WHEN is_unreserved THEN cache_write_tokens END), 0),
       coalesce(sum(CASE WHEN is_unreserved THEN output_tokens END), 0),
       coalesce(sum(CASE WHEN is_unreserved THEN reasoning_tokens END), 0),
       coalesce(sum(is_unreserved AND input_tokens IS NULL), 0),
       coalesce(sum(CASE WHEN is_unreserved AND input_tokens IS NULL THEN body_bytes END), 0),
       coalesce(sum(CASE WHEN is_unreserved AND input_tokens IS NULL THEN max_tokens END), 0),
       coalesce(sum(is_unreserved AND input_tokens IS NULL AND max_tokens IS NULL), 0)
FROM (SELECT prompt_id, coalesce(batch_id, 0) AS batch, outcome, attempt.input_tokens, attempt.cached_tokens,
             cache_write_tokens, attempt.output_tokens, attempt.reasoning_tokens, attempt.cost_nanousd, reserved_nanousd,
             body_bytes, attempt.max_tokens,
             attempt.cost_nanousd IS NULL AND reserved_nanousd IS NOT NULL
                 AND (outcome IS 'failed' OR outcome IS 'in_doubt') AS is_perhaps,
             attempt.cost_nanousd IS NULL AND reserved_nanousd IS NULL
                 AND (attempt.input_tokens IS NOT NULL OR outcome IS NOT 'failed'
                      OR attempt.error_class IN ('timeout', 'connection', 'malformed_reply', 'missing_from_batch')) AS is_unreserved
      FROM attempt JOIN request ON request.id = attempt.request_id)
GROUP BY prompt_id, batch;
