"""The audit trail: `record_event` writes an event, `history.history` reads those of one id."""

from mailing.events.writer import COMMAND_LINE, WORKER, difference, record_event

__all__ = ["COMMAND_LINE", "WORKER", "difference", "record_event"]
