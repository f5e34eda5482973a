"""Roles of the admin page. Each role includes those before it."""

from enum import IntEnum
from typing import Self


class Role(IntEnum):
    """Compared by `>=`. A viewer reads, an editor changes clients and writes drafts of mailings, a sender releases,
    stops and resolves, an admin manages users and keys.
    """

    VIEWER = 1
    EDITOR = 2
    SENDER = 3
    ADMIN = 4

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def named(cls, word: str) -> Self:
        """Raise KeyError for an unknown role."""
        return cls[word.upper()]
