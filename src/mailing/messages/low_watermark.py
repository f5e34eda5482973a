"""Where a mailing's pending messages begin: kept by a trigger of the schema, in the statement that moves them.

A walk along `message_due` that starts there meets no entry of what was sent before. From the beginning it would meet
them all, at every claim, until VACUUM could remove them.
"""

_OF_MAILING = "FROM message_low_watermark f WHERE f.mailing_id = :mailing_id"

# For `message` by itself, in the order of message_due.
FROM_FRONT = f"(due_at, id) >= ((SELECT f.due_at {_OF_MAILING}), (SELECT f.id {_OF_MAILING}))"
