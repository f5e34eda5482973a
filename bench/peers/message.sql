-- What a peer keeps of a message: no more than it needs to send it once.
CREATE TABLE message (
    id         bigint PRIMARY KEY,
    mailing_id bigint NOT NULL,
    client_id  bigint NOT NULL,
    phone      text NOT NULL,
    text       text NOT NULL,
    status     text NOT NULL DEFAULT 'pending',
    sent_at    timestamptz,
    UNIQUE (client_id, mailing_id)
);
