"""SQL that ends a message `m` that is not being sent."""

from mailing.messages.states import MessageStatus
from mailing.reasons.codes import ReasonCode


def ended_status(status: str) -> str:
    """Build the status of an ended message: `status` requires that no attempt can have been accepted."""
    return f"CASE WHEN m.maybe_accepted THEN 'unknown' ELSE {status} END"


def end(status: MessageStatus, reason: ReasonCode | str, *, params: str = "NULL") -> str:
    """Build the assignments that end a message. `reason` is a code, or an expression for one."""
    code = f"'{reason}'" if isinstance(reason, ReasonCode) else reason
    return f"""
        status = {ended_status(f"'{status}'")}, finished_at = now(), wait_reason = NULL,
        reason_code = {code}, reason_params = {params}"""
