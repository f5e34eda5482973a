"""Addresses that only their provider knows: `/receipts/{message id}.{mac}`, and two that hold for the whole account.

The mac is an HMAC of what the address is for. An address cannot be guessed or derived from another, and a leaked one
forges the receipts of one message. The key is `read_key`'s.
"""

import base64
import hmac
import re
from typing import Final, Literal

RECEIPTS_PATH: Final = "/receipts"
REPLIES_PATH: Final = "/replies"

_MAC_BYTES: Final = 16
_MESSAGE = re.compile(r"([1-9][0-9]{0,18})\.[A-Za-z0-9_-]{22}", re.ASCII)

_Purpose = Literal["receipt", "receipts", "replies"]


def receipt_path(key: bytes, provider: str, message_id: int) -> str:
    """Return the address of one message's receipts, at most 52 characters."""
    return f"{RECEIPTS_PATH}/{message_id}.{_mac(key, 'receipt', provider, str(message_id))}"


def account_receipts_path(key: bytes, provider: str) -> str:
    """Return the address for a provider that knows one for all messages."""
    return f"{RECEIPTS_PATH}/{provider}.{_mac(key, 'receipts', provider)}"


def replies_path(key: bytes, provider: str) -> str:
    return f"{REPLIES_PATH}/{provider}.{_mac(key, 'replies', provider)}"


def namespace_of(key: bytes) -> str:
    """Return ten hexadecimal digits that tell this installation's messages from another's in the same account."""
    return hmac.digest(key, b"namespace", "sha256")[:5].hex()


def message_of(path: str, *, key: bytes, provider: str) -> int | None:
    """Return the message whose receipts this address takes; None if we did not make it."""
    fits = _MESSAGE.fullmatch(path.removeprefix(RECEIPTS_PATH + "/"))
    message_id = int(fits[1]) if fits else 0
    return message_id if _equal(path, receipt_path(key, provider, message_id)) else None


def is_account_receipts(path: str, *, key: bytes, provider: str) -> bool:
    return _equal(path, account_receipts_path(key, provider))


def is_replies(path: str, *, key: bytes, provider: str) -> bool:
    return _equal(path, replies_path(key, provider))


def _mac(key: bytes, purpose: _Purpose, *parts: str) -> str:
    message = "\0".join((purpose, *parts)).encode()
    digest = hmac.digest(key, message, "sha256")[:_MAC_BYTES]
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _equal(given: str, ours: str) -> bool:
    """Compare in constant time. A path may hold anything, also what UTF-8 can't encode."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), ours.encode())
