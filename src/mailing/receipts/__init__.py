"""Receipts of messages and replies from phones, as providers send them."""

from datetime import timedelta
from typing import Final

RECEIPTS_TIME: Final = timedelta(hours=72)  # a receipt comes within this time of the acceptance, or hardly ever
