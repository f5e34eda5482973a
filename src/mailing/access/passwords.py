"""Passwords at rest: argon2id, away from the event loop.

A hash takes 19 MiB and about 30 ms, as OWASP recommends. At most MAX_HASHING run at once in a process and MAX_WAITING
wait. Further sign-ins are refused with 429, so that a flood exhausts neither memory nor the event loop.
"""

from collections.abc import Collection
from functools import partial

from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mailing.access.common_passwords import problem_of
from mailing.errors import FieldError, Invalid, TooMany

MAX_HASHING = 2
MAX_WAITING = 50
MIN_LENGTH, MAX_LENGTH = 10, 200  # characters

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_limiter = CapacityLimiter(MAX_HASHING)

# The hash of no password, verified for an unknown name so that the answer takes as long.
_DUMMY_HASH = "$argon2id$v=19$m=19456,t=2,p=1$hOuWREoPdzy6kmkzV59UzA$Tqfm30BisCb/atgP+zCJ0eEQV/vXovOrDznBQ5eAADs"


async def hash_password(password: str, *, names: Collection[str]) -> str:
    """Return the hash. Raise Invalid for a weak password; `names` are the user's."""
    if problem := _problem(password) or await to_thread.run_sync(problem_of, password, names):
        raise Invalid(FieldError("password", problem))
    return await to_thread.run_sync(_hasher.hash, password, limiter=_limiter)


async def matches(password: str, password_hash: str | None) -> bool:
    """Verify the password. Take the same time with a hash and without one."""
    if _limiter.statistics().tasks_waiting >= MAX_WAITING:
        raise TooMany("Too many sign-ins at this moment. Try again in a few seconds.", wait_s=5)
    check = partial(_verify, password, password_hash or _DUMMY_HASH)
    return await to_thread.run_sync(check, limiter=_limiter) and password_hash is not None


def _verify(password: str, password_hash: str) -> bool:
    try:
        return _hasher.verify(password_hash, password[: MAX_LENGTH + 1])
    except (VerificationError, InvalidHashError, UnicodeEncodeError):
        return False


def _problem(password: str) -> str | None:
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        return "must have 10 to 200 characters"
    if not password.isprintable():
        return "must not contain control characters"
    if password != password.strip():
        return "must not begin or end with a space"
    if len(set(password)) < 4:
        return "must have at least 4 different characters"
    return None
