"""Conditions on `former_phone`, which a trigger fills: a phone gets a mailing once, even if another client has it now.

Only a phone that left a client can have had a message of another client. So a mailing without entries costs one look at
the index.
"""

# Before a hash is computed for each row.
_ANY = "EXISTS (SELECT FROM former_phone f WHERE f.mailing_id = :mailing_id)"
# The hash is a scalar subquery, so that the index of `former_phone` finds it. As a join with the key's table, of which
# PostgreSQL has no statistics, it made statements compare each client with each entry of the mailing.
_ENTRY = "f.mailing_id = :mailing_id AND f.phone_hash = (SELECT erasure_hash({phone}, k.key) FROM erasure_key k)"

# The entry's message was sent to the phone, or may be. It may have been claimed again since, for another phone; an
# erased phone is NULL.
_MAY_REACH = """
    (o.phone IS NULL OR o.phone = {phone}) AND (o.status IN ('sending', 'sent', 'unknown') OR o.maybe_accepted)
"""

# Conditions on a client `c`: a message of an earlier client was claimed for its phone; that message may have reached
# the phone.
HAS_FORMER = f"({_ANY} AND EXISTS (SELECT FROM former_phone f WHERE {_ENTRY.format(phone='c.phone')}))"
MAY_BE_REACHED = f"""({_ANY} AND EXISTS (
    SELECT FROM former_phone f JOIN message o ON o.id = f.message_id
    WHERE {_ENTRY.format(phone="c.phone")} AND {_MAY_REACH.format(phone="c.phone")}))"""

# A subquery over the unsent messages in `{unsent}`: those with another message that was, or may have been, sent to the
# same phone (`reached`), or is in a call (not `reached`).
OF_SAME_PHONE = f"""
    SELECT u.id, bool_or(o.status <> 'sending' OR o.maybe_accepted) AS reached
    FROM {{unsent}} u JOIN client c ON c.id = u.client_id
    CROSS JOIN LATERAL (SELECT CASE WHEN u.maybe_accepted THEN u.phone ELSE c.phone END AS phone) target
    CROSS JOIN LATERAL (
        SELECT f.message_id FROM former_phone f WHERE {_ENTRY.format(phone="target.phone")} OFFSET 0) former
    JOIN message o ON o.id = former.message_id AND o.id <> u.id AND {_MAY_REACH.format(phone="target.phone")}
    WHERE {_ANY} GROUP BY u.id
"""  # noqa: S608 - constants
