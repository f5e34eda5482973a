"""Whom PostgreSQL runs as. It refuses root, so root starts it as a user who owns the cluster and nothing else."""

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
    """None: as this process. `groups` are those whose directories lie above the binaries or the data."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None

    def own(self, directory: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(directory, self.uid, self.gid)


def account_for(cluster: Path, *, reads: Iterable[Path]) -> Account:
    """An existing cluster keeps its owner, whoever starts it."""
    if os.geteuid() != 0:
        return Account()
    uid, gid = _owner(cluster) or _system_user()
    above = {parent for path in (cluster, *reads) for parent in path.parents}
    groups = {group for directory in sorted(above) if (group := _admit(uid, directory)) is not None}
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
            f"PostgreSQL does not run as root and the user {SYSTEM_USER} can't be made: "
            "add that user, start as another one, or set MAILING_DATABASE_URL"
        ) from error


def _admit(uid: int, directory: Path) -> int | None:
    """The group PostgreSQL must join to pass through `directory`, if any.

    A closed home (0700) gets the search bit for its own group: nobody but that group's members gains anything,
    and they still can't list it.
    """
    status = directory.stat()
    if status.st_uid == uid or status.st_mode & stat.S_IXOTH:
        return None
    if not status.st_mode & stat.S_IXGRP:
        try:
            directory.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXGRP)
        except OSError as error:
            raise EmbeddedError(
                f"PostgreSQL does not run as root and its user can't pass through {directory}: "
                "set MAILING_DATA_DIR to a directory elsewhere, or start as another user"
            ) from error
        _log.warning("%s: search permission added for its group, so that PostgreSQL's user can pass", directory)
    return status.st_gid


def _make_readable(directory: Path) -> None:
    """For an installation under a strict umask. It holds published software, nothing of this machine's."""
    if any(not path.stat().st_mode & stat.S_IROTH for path in (directory, *directory.glob("*"))):
        subprocess.run(["chmod", "-R", "go+rX", directory], check=True)  # noqa: S603, S607 - root's PATH
