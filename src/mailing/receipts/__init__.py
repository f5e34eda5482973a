"""What providers tell about messages: receipts, and replies from phones."""

from datetime import timedelta
from typing import Final

RECEIPTS_TIME: Final = timedelta(hours=72)  # a receipt comes within this time of the acceptance, or hardly ever
