"""Addresses that only their provider knows: `/receipts/{message id}.{mac}`, and two that hold for the whole account.

The mac is an HMAC of what the address is for. An address cannot be guessed or derived from another, and a leaked one
forges the receipts of one message. The key is `read_key`'s.
"""

import base64
import hmac
import re
from functools import cache
from typing import Final

RECEIPTS_PATH: Final = "/receipts"
REPLIES_PATH: Final = "/replies"

_MAC_BYTES: Final = 16
_MESSAGE = re.compile(RECEIPTS_PATH + r"/([1-9][0-9]{0,18})\.[A-Za-z0-9_-]{22}", re.ASCII)


def receipt_path(key: bytes, provider: str, message_id: int) -> str:
    """Return the address of one message's receipts, at most 52 characters."""
    mac = _mac(key, f"receipt\0{provider}\0{message_id}")
    return f"{RECEIPTS_PATH}/{message_id}.{mac}"


def account_receipts_path(key: bytes, provider: str) -> str:
    """Return the address for a provider that knows one for all messages."""
    mac = _mac(key, f"receipts\0{provider}")
    return f"{RECEIPTS_PATH}/{provider}.{mac}"


def signing_secret(key: bytes, provider: str) -> str:
    """Return the secret word with which the provider signs what comes to `account_receipts_path`."""
    return _mac(key, f"signature\0{provider}")


def replies_path(key: bytes, provider: str) -> str:
    mac = _mac(key, f"replies\0{provider}")
    return f"{REPLIES_PATH}/{provider}.{mac}"


def namespace_of(key: bytes) -> str:
    """Return ten hexadecimal digits that tell this installation's messages from another's in the same account."""
    return hmac.digest(key, b"namespace", "sha256")[:5].hex()


def message_of(path: str, *, key: bytes, provider: str) -> int | None:
    """Return the message whose receipts this address takes; None if we did not make it."""
    fits = _MESSAGE.fullmatch(path)
    if not fits:
        return None
    message_id = int(fits[1])
    return message_id if hmac.compare_digest(path, receipt_path(key, provider, message_id)) else None


def is_account_receipts(path: str, *, key: bytes, provider: str) -> bool:
    return _equal(path, account_receipts_path(key, provider))


def is_replies(path: str, *, key: bytes, provider: str) -> bool:
    return _equal(path, replies_path(key, provider))


def _mac(key: bytes, purpose: str) -> str:
    mac = _keyed(key).copy()
    mac.update(purpose.encode())
    return base64.urlsafe_b64encode(mac.digest()[:_MAC_BYTES]).rstrip(b"=").decode()


@cache
def _keyed(key: bytes) -> hmac.HMAC:
    """Prepare a key once: it takes half of the time of an HMAC."""
    return hmac.new(key, digestmod="sha256")


def _equal(given: str, ours: str) -> bool:
    """Compare in constant time. A path may hold anything, also what UTF-8 can't encode."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), ours.encode())
