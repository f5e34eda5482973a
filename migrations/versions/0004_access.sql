-- people who sign in at the admin page: with a password, or through the identity provider, whose `subject` they are
CREATE TABLE user_account (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL CHECK (name <> ''),
    role          text NOT NULL CHECK (role IN ('viewer', 'editor', 'sender', 'admin')),
    password_hash text,                                    -- argon2id, with its own salt and cost
    issuer        text,
    subject       text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    disabled_at   timestamptz,
    CHECK ((issuer IS NULL) = (subject IS NULL)),
    CHECK (issuer IS NULL OR password_hash IS NULL)
);
-- sign-in with a password; a name means one person, however it is written
CREATE UNIQUE INDEX user_account_name ON user_account (lower(name)) WHERE issuer IS NULL;
-- sign-in through the identity provider
CREATE UNIQUE INDEX user_account_subject ON user_account (issuer, subject) WHERE issuer IS NOT NULL;

-- signed-in browsers
CREATE TABLE user_session (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash      bytea NOT NULL UNIQUE,                       -- sha-256; a token is 32 random bytes, so no salt
    user_id   bigint NOT NULL REFERENCES user_account,
    opened_at timestamptz NOT NULL DEFAULT now(),
    seen_at   timestamptz NOT NULL DEFAULT now(),          -- to the minute
    address   text NOT NULL,
    agent     text NOT NULL
);
-- a user's sessions: to list them and to end them all
CREATE INDEX user_session_of_user ON user_session (user_id, id);
-- pruning begins with the one not seen for longest
CREATE INDEX user_session_age ON user_session (seen_at);

-- tries to sign in that did not succeed, by account and by address; a name that was typed may be a password, so only
-- its sha-256 is kept
CREATE TABLE sign_in_try (
    subject      bytea PRIMARY KEY,
    failures     integer NOT NULL,
    failed_at    timestamptz NOT NULL,
    locked_until timestamptz NOT NULL
);
CREATE INDEX sign_in_try_age ON sign_in_try (failed_at);

-- what a key may: read, or everything
ALTER TABLE api_key ADD COLUMN scope text NOT NULL DEFAULT 'full' CHECK (scope IN ('read', 'full'));
