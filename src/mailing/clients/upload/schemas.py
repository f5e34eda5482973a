from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from mailing.reasons.refusals import Refusal


class UploadStatus(StrEnum):
    uploaded = "uploaded"
    waiting = "waiting"
    importing = "importing"
    done = "done"
    failed = "failed"


class Upload(Struct):
    """An uploaded file and its import. Sizes in bytes; `read` is the import's position.

    `refusals`: why the import failed for good.

    `broke_off`: the cause of the last failed attempt, which stored nothing and is retried.
    """

    id: int
    name: str
    actor: str
    size: int
    status: UploadStatus
    created_at: datetime
    bytes_read: int
    created: int
    updated: int
    opted_out: int
    rejected: int
    refusals: list[Refusal]
    broke_off: Refusal | None
    finished_at: datetime | None

    @property
    def storing(self) -> bool:
        """Whether the file is validated to its end and its rows are being stored."""
        return self.status == UploadStatus.importing and self.bytes_read >= self.size


class ImportLease(Struct, frozen=True):
    """A worker's lease on an import. `number`, the attempt, fences it: a later claim makes it void."""

    upload_id: int
    number: int
