-- Money: what is set aside for what may still be billed, what tokens cost here, and how fast a provider lets us send.

-- The most that an attempt may cost, set aside at its promise. It counts against a budget for as long as `cost_nanousd` is
-- not known: what was sent and never answered may have been billed, by nobody knows how much. A cost of 0 is known.
ALTER TABLE attempt ADD COLUMN reserved_nanousd INTEGER CHECK (reserved_nanousd >= 0);

-- Input tokens that the provider put into its prompt cache, which may cost more than others; NULL where nobody asked.
ALTER TABLE attempt ADD COLUMN cache_write_tokens INTEGER;

-- Prices of models: those that a person set for this project, and those of a price file that a run was given.
CREATE TABLE price (
    model     TEXT NOT NULL,
    origin    TEXT NOT NULL CHECK (origin IN ('own', 'file')),
    terms     TEXT NOT NULL CHECK (json_valid(terms)),
    set_at_ms INTEGER NOT NULL,
    PRIMARY KEY (model, origin)
) STRICT;

-- The rates that a provider's headers, or its refusals, have told of.
CREATE TABLE rate_limit (
    server              TEXT NOT NULL,
    model               TEXT NOT NULL,
    requests_per_minute INTEGER CHECK (requests_per_minute > 0),
    tokens_per_minute   INTEGER CHECK (tokens_per_minute > 0),
    learned_at_ms       INTEGER NOT NULL,
    PRIMARY KEY (server, model)
) STRICT;
