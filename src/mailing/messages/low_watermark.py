"""The low watermark: where a mailing's pending messages begin. A trigger keeps it in the statement that moves them.

A scan of `message_due` that starts there meets no index entry of sent messages. From the beginning it would meet them
all, at every claim, until VACUUM could remove them.
"""

OF_MAILING = "FROM message_low_watermark f WHERE f.mailing_id = :mailing_id"

# A condition on `message`, in the order of message_due.
FROM_LOW_WATERMARK = f"(due_at, id) >= ((SELECT f.due_at {OF_MAILING}), (SELECT f.id {OF_MAILING}))"

# The index has messages that are being sent, too: the few that are claimed and not recorded yet.
PENDING = "phase = 'open' AND status = 'pending'"
