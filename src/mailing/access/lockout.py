"""Lockout after failed sign-ins, by account and by address, shared by all processes.

An attempt is counted before its password is verified, so a thousand at once get no further than a thousand in a row.
The attempt that reaches the limit locks, each time for longer. A lock ends by itself; counts expire after a day.
"""

import hashlib
import math
from ipaddress import IPv6Address, ip_address, ip_network

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.errors import TooMany

MAX_ACCOUNT_TRIES = 5
MAX_ADDRESS_TRIES = 20  # an office may share one address
FIRST_LOCK_S = 30
MAX_LOCK_S = 900  # an attacker who locks out a user must repeat it every 15 minutes

# By the primary key; no row comes back while a lock holds.
_COUNT = text("""
    INSERT INTO login_throttle AS kept (key_hash, failures, failed_at, locked_until)
    VALUES (:key_hash, 1, now(), '-infinity')
    ON CONFLICT (key_hash) DO UPDATE SET
        failures = CASE WHEN kept.failed_at < now() - interval '1 day' THEN 1 ELSE kept.failures + 1 END,
        failed_at = now(),
        locked_until = CASE
            WHEN kept.failed_at < now() - interval '1 day' OR kept.failures + 1 < :allowed THEN '-infinity'
            ELSE now() + make_interval(secs => least(:first * 2 ^ least(kept.failures + 1 - :allowed, 20), :longest))
        END
    WHERE kept.locked_until <= now()
    RETURNING failures
""")

_LOCKED_FOR = text("SELECT extract(epoch FROM locked_until - now()) FROM login_throttle WHERE key_hash = :key_hash")

_CLEAR = text("DELETE FROM login_throttle WHERE key_hash = :key_hash")

_UNCOUNT = text("""
    UPDATE login_throttle SET failures = failures - 1, locked_until = '-infinity' WHERE key_hash = :key_hash
""")

# By login_throttle_age.
_PRUNE = text("""
    DELETE FROM login_throttle WHERE key_hash = ANY (ARRAY(
        SELECT key_hash FROM login_throttle WHERE failed_at < now() - interval '1 day'
        ORDER BY failed_at LIMIT 50 FOR UPDATE SKIP LOCKED))
""")


async def count_try(session: AsyncSession, account: str, *, address: str) -> bool:
    """Return whether this attempt locks if it fails. Raise TooMany while locked.

    `account` identifies an account, also one that does not exist.
    """
    await session.execute(_PRUNE)
    by_address = await _count(session, _address(address), allowed=MAX_ADDRESS_TRIES)
    by_account = await _count(session, _account(account), allowed=MAX_ACCOUNT_TRIES)
    return by_address >= MAX_ADDRESS_TRIES or by_account >= MAX_ACCOUNT_TRIES


async def clear_failures(session: AsyncSession, account: str, *, address: str) -> None:
    """Reset after a success. The address keeps its other failures, or one known account would unlock all others."""
    await session.execute(_UNCOUNT, {"key_hash": _address(address)})
    await session.execute(_CLEAR, {"key_hash": _account(account)})


async def unlock(session: AsyncSession, account: str) -> None:
    await session.execute(_CLEAR, {"key_hash": _account(account)})


async def _count(session: AsyncSession, key_hash: bytes, *, allowed: int) -> int:
    values = {"key_hash": key_hash, "allowed": allowed, "first": FIRST_LOCK_S, "longest": MAX_LOCK_S}
    counted = (await session.execute(_COUNT, values)).scalar_one_or_none()
    if counted is None:
        left = (await session.execute(_LOCKED_FOR, {"key_hash": key_hash})).scalar_one_or_none()
        raise TooMany("Too many failed sign-ins. Wait, then try again.", wait_s=max(1, math.ceil(left or 0)))
    return int(counted)


def _account(account: str) -> bytes:
    return hashlib.sha256(f"account {account}".encode("utf-8", "surrogatepass")).digest()


def _address(address: str) -> bytes:
    """Hash an address. One customer of a provider has a whole IPv6 network of 64 bits."""
    try:
        known = ip_address(address.partition("%")[0])
    except ValueError:
        return hashlib.sha256(f"address {address}".encode("utf-8", "surrogatepass")).digest()
    network = ip_network((known, 64 if isinstance(known, IPv6Address) else 32), strict=False)
    return hashlib.sha256(f"address {network}".encode()).digest()
