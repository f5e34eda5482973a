"""What people, programs and workers did: `record_event` writes it, `history.history` reads it by id."""

from mailing.events.writer import COMMAND_LINE, WORKER, record_event

__all__ = ["COMMAND_LINE", "WORKER", "record_event"]
