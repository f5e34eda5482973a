"""The operating-system account PostgreSQL runs under: as root, one that owns the cluster and nothing else."""

import logging
import os
import pwd
import stat
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mailing.errors import EmbeddedError

SYSTEM_USER = "pgserver"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """`uid`, `gid`: None for those of this process. `groups` own directories above the binaries or the data."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None

    def own(self, directory: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(directory, self.uid, self.gid)


def account_for(cluster: Path, *, reads: Iterable[Path]) -> Account:
    """Return the owner of an existing cluster, else the system user, with access to `cluster` and `reads`."""
    if os.geteuid() != 0:
        return Account()
    uid, gid = _owner(cluster) or _system_user()
    above = {parent for path in (cluster, *reads) for parent in path.parents}
    groups = {group for directory in sorted(above) if (group := _let_pass(uid, directory)) is not None}
    for path in reads:
        _make_readable(path)
    return Account(uid, gid, tuple(groups))


def _owner(cluster: Path) -> tuple[int, int] | None:
    if not cluster.exists() or cluster.stat().st_uid == 0:
        return None
    return cluster.stat().st_uid, cluster.stat().st_gid


def _system_user() -> tuple[int, int]:
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        _add_system_user()
        entry = pwd.getpwnam(SYSTEM_USER)
    return entry.pw_uid, entry.pw_gid


def _add_system_user() -> None:
    try:
        subprocess.run(  # noqa: S603 - no input
            ["useradd", "--system", "--user-group", SYSTEM_USER],  # noqa: S607 - root's PATH
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedError(
            f"PostgreSQL does not run as root and the user {SYSTEM_USER} cannot be created; "
            "add that user, start as another user, or set MAILING_DATABASE_URL"
        ) from error


def _let_pass(uid: int, directory: Path) -> int | None:
    """Return the group that PostgreSQL must join to pass through `directory`, if any.

    A closed home directory (0700) gets the search bit for its own group. Only that group's members gain access, and
    they still cannot list it.
    """
    status = directory.stat()
    if status.st_uid == uid or status.st_mode & stat.S_IXOTH:
        return None
    if not status.st_mode & stat.S_IXGRP:
        try:
            directory.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXGRP)
        except OSError as error:
            raise EmbeddedError(
                f"PostgreSQL does not run as root and its user cannot pass through {directory}; "
                "set MAILING_DATA_DIR to another directory, or start as another user"
            ) from error
        _log.warning("%s: search permission added for its group, so that PostgreSQL can pass", directory)
    return status.st_gid


def _make_readable(directory: Path) -> None:
    """Make an installation under a strict umask readable. It contains published software only."""
    if any(not path.stat().st_mode & stat.S_IROTH for path in (directory, *directory.glob("*"))):
        subprocess.run(["chmod", "-R", "go+rX", directory], check=True)  # noqa: S603, S607 - root's PATH
