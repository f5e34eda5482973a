from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class Status(StrEnum):
    uploaded = "uploaded"
    waiting = "waiting"
    importing = "importing"
    done = "done"
    failed = "failed"


class Upload(Struct):
    """Sizes in bytes; `bytes_read` is how far the import is. `error` says why nothing was imported.

    `broke_off`: what broke the newest try off, after which nothing was stored; it is begun again by itself.
    """

    id: int
    name: str
    actor: str
    size: int
    status: Status
    created_at: datetime
    bytes_read: int
    created: int
    updated: int
    rejected: int
    error: str | None
    broke_off: str | None
    finished_at: datetime | None

    @property
    def storing(self) -> bool:
        """The file is judged to its end; its good rows go into the table in one step."""
        return self.status == Status.importing and self.bytes_read >= self.size


class Try(Struct, frozen=True):
    """One worker's import of an upload. What it says counts as long as nobody took the upload over."""

    upload_id: int
    number: int
