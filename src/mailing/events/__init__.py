"""What people, programs and workers did: `note` writes it down, `reading.story` tells it by id."""

from mailing.events.writer import COMMAND_LINE, WORKER, note

__all__ = ["COMMAND_LINE", "WORKER", "note"]
