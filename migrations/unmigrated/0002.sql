-- Shows a file of format 2 as one of the newest format, for a connection that may not bring it there.

CREATE TEMP VIEW attempt AS SELECT *, NULL AS reserved_nanousd, NULL AS cache_write_tokens FROM main.attempt;

CREATE TEMP VIEW price AS SELECT NULL AS model, NULL AS origin, NULL AS terms, NULL AS set_at_ms WHERE false;

CREATE TEMP VIEW rate_limit AS
SELECT NULL AS server, NULL AS model, NULL AS requests_per_minute, NULL AS tokens_per_minute, NULL AS learned_at_ms
WHERE false;
