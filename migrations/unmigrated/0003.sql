-- Shows a file of format 3 or older as one of the newest format, for a connection that may not bring it there: of an older
-- one, beside the views of its own format.

CREATE TEMP VIEW prompt AS SELECT *, 0 AS asked_upto FROM main.prompt;

CREATE TEMP VIEW request AS
SELECT *, coalesce((SELECT request_id FROM main.attempt WHERE attempt.id = request.attempt_id) <> id, 0) AS is_lent
FROM main.request;

CREATE TEMP VIEW request_count AS
SELECT prompt_id, state, coalesce(error_class, '') AS error_class, count(*) AS requests
FROM main.request GROUP BY prompt_id, state, coalesce(error_class, '');

CREATE TEMP VIEW attempt_sum (
    prompt_id, batch_id, attempts, answered, unpriced, input_tokens, cached_tokens, cache_write_tokens, output_tokens,
    reasoning_tokens, cost_nanousd, held_nanousd, open_nanousd, perhaps, perhaps_nanousd, unreserved,
    unreserved_input_tokens, unreserved_cached_tokens, unreserved_cache_write_tokens, unreserved_output_tokens,
    unreserved_reasoning_tokens, untold, untold_body_bytes, untold_max_tokens, untold_unlimited
) AS
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
