-- How much of its rate each API key has used. Written ten times a second and key at most; lost in a crash without harm.
CREATE UNLOGGED TABLE api_allowance (
    caller     text PRIMARY KEY,
    spent_upto timestamptz NOT NULL                        -- the requests of this time are given away
) WITH (fillfactor = 20);
