"""The supported versions of PostgreSQL."""

from typing import Final

MIN_POSTGRESQL: Final = 15  # the oldest version that is tested
