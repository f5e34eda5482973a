"""The versions of PostgreSQL that serve."""

from typing import Final

MIN_POSTGRESQL: Final = 15  # the oldest version that is tested
