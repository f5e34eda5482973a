"""Who may do what at the admin page: each role may all that the ones before it may."""

from enum import IntEnum
from typing import Self


class Role(IntEnum):
    """Compared by `>=`. A viewer reads, an editor changes clients and makes drafts of mailings, a sender releases,
    stops and resolves, an admin gives access.
    """

    VIEWER = 1
    EDITOR = 2
    SENDER = 3
    ADMIN = 4

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def named(cls, word: str) -> Self:
        """KeyError for a word that is no role."""
        return cls[word.upper()]
