-- what workers counted since this table was made, for /metrics: each adds its part every few seconds
CREATE TABLE tally (
    name  text NOT NULL,
    label text NOT NULL DEFAULT '',
    value double precision NOT NULL,
    PRIMARY KEY (name, label)
) WITH (fillfactor = 50);

-- the newest comparison of a mailing's counters with its messages; drift is the sum of all differences and must be 0
CREATE TABLE count_audit (
    mailing_id bigint PRIMARY KEY REFERENCES mailing,
    at         timestamptz NOT NULL,
    drift      bigint NOT NULL
);
