-- Shows a file of format 1 as one of the newest format, for a connection that may not bring it there: what is
-- missing stands in views of that connection alone, found before the tables of the same name. A new migration
-- that adds a column or table adds it here too; a test compares the two.

CREATE TEMP VIEW batch AS
SELECT *, '' AS server, NULL AS ended, NULL AS error, NULL AS created_at_ms, NULL AS seen_at_ms,
       NULL AS completed_requests, NULL AS failed_requests
FROM main.batch;

CREATE TEMP VIEW attempt AS
SELECT *, NULL AS result_file, NULL AS result_line, NULL AS reserved_nanousd, NULL AS cache_write_tokens
FROM main.attempt;

CREATE TEMP VIEW stray_line AS
SELECT NULL AS id, NULL AS batch_id, NULL AS file, NULL AS number, NULL AS why, NULL AS reply, NULL AS reply_bytes,
       NULL AS found_at_ms
WHERE false;

CREATE TEMP VIEW queue_limit AS
SELECT NULL AS server, NULL AS model, NULL AS tokens, NULL AS learned_at_ms WHERE false;

CREATE TEMP VIEW price AS SELECT NULL AS model, NULL AS origin, NULL AS terms, NULL AS set_at_ms WHERE false;

CREATE TEMP VIEW rate_limit AS
SELECT NULL AS server, NULL AS model, NULL AS requests_per_minute, NULL AS tokens_per_minute, NULL AS learned_at_ms
WHERE false;
