-- the search: by the last digits of a phone, by time zone, and who opted out, in the order of their keyset
CREATE INDEX client_by_phone_end ON client (reverse(phone));
CREATE INDEX client_by_timezone ON client (timezone, id);
CREATE INDEX client_opted_out ON client (id) WHERE opted_out;

-- A file of clients, from the choice in the browser to the result. It lies here because the next request may reach
-- another process, and the import runs in a worker.
CREATE TABLE upload (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,                             -- of the file, as the browser gave it
    actor       text NOT NULL,
    size        bigint NOT NULL,                           -- bytes
    status      text NOT NULL DEFAULT 'uploaded'
                CHECK (status IN ('uploaded', 'waiting', 'importing', 'done', 'failed')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    tries       integer NOT NULL DEFAULT 0,                -- also the fence: a worker's word counts under its own number
    lease_until timestamptz,
    read        bigint NOT NULL DEFAULT 0,                 -- bytes, of the newest try
    created     bigint NOT NULL DEFAULT 0,
    updated     bigint NOT NULL DEFAULT 0,
    rejected    bigint NOT NULL DEFAULT 0,
    error       text,                                      -- why nothing was imported
    finished_at timestamptz,
    CHECK ((lease_until IS NOT NULL) = (status = 'importing')),
    CHECK ((finished_at IS NOT NULL) = (status IN ('done', 'failed'))),
    CHECK ((error IS NOT NULL) = (status = 'failed'))
);
-- the sweep: what should be on its way
CREATE INDEX upload_open ON upload (id) WHERE status IN ('waiting', 'importing');

-- the file itself, until it is imported
CREATE TABLE upload_piece (
    upload_id bigint NOT NULL REFERENCES upload ON DELETE CASCADE,
    number    integer NOT NULL,
    data      bytea NOT NULL,
    PRIMARY KEY (upload_id, number)
);

-- bad fields of rows that were left out
CREATE TABLE upload_refusal (
    upload_id bigint NOT NULL REFERENCES upload ON DELETE CASCADE,
    line      bigint NOT NULL,
    field     text NOT NULL,
    message   text NOT NULL,
    row       text NOT NULL,                               -- as it was given
    PRIMARY KEY (upload_id, line, field)
);
