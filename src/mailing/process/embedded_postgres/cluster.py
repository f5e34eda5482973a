"""One PostgreSQL cluster on disk. Not safe against a second process; `shared` takes the lock."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mailing.errors import EmbeddedError
from mailing.process.embedded_postgres.account import account_for
from mailing.process.embedded_postgres.binaries import find_binaries

DIRECTORY = "postgres"  # below the data directory
PORT = 5432  # part of the socket's name; no TCP port is opened
MAX_SOCKET_PATH_BYTES = 103  # macOS; Linux allows 107
SOCKETS = Path("/tmp")  # noqa: S108 - `create_socket_dir` checks the owner

# Written once into postgresql.conf, where the operator may change them.
SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "wal_compression": "on",
    "synchronous_commit": "on",  # a recorded attempt survives a crash
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_messages": "log",  # the caller gets the error; a log would show rows, with phones and texts
    "log_min_error_statement": "panic",
}


class Cluster:
    def __init__(self, data_dir: Path) -> None:
        """Find the binaries and the account. As root, create the user that PostgreSQL runs as."""
        self.data_dir = data_dir
        self.directory = data_dir / DIRECTORY
        self.log = data_dir / "postgres.log"
        self.socket_dir = socket_dir_of(data_dir)
        self.binaries = find_binaries(self._major())
        self._account = account_for(self.directory, reads=self.binaries.reads)

    def initialise(self) -> None:
        """Create the cluster, unless it exists.

        initdb runs in a directory beside it, renamed when complete, because an incomplete cluster would never start.
        Each run has a new directory: an initdb whose parent was killed may still be writing to the previous one.
        """
        if self._is_initialised():
            return
        for left in self.data_dir.glob("postgres.new-*"):
            shutil.rmtree(left, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(dir=self.data_dir, prefix="postgres.new-"))
        self._account.own(draft)
        access = ["--username=postgres", "--auth-local=trust", "--auth-host=reject"]  # the directory is its owner's
        builtin = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        locale = builtin if self.binaries.major >= 17 else ["--locale=C.UTF-8"]
        # one call for the file system instead of one for each of 1,000 files: 0.2 s, over 1 s beside other writers
        sync = ["--sync-method=syncfs"] if self.binaries.major >= 17 and sys.platform == "linux" else []
        options = ["--no-instructions", "--encoding=UTF8", *access, *locale, *sync]
        failure = self.run("initdb", f"--pgdata={draft}", *options)
        if failure is not None:
            raise EmbeddedError(f"PostgreSQL cannot be set up in {self.data_dir}: {complaint(failure)}; see {self.log}")
        with (draft / "postgresql.conf").open("a") as configuration:
            configuration.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
        draft.rename(self.directory)

    def create_socket_dir(self) -> Path:
        path = self.socket_dir
        if not path.exists():
            path.mkdir(mode=0o700)
            self._account.own(path)
        status = path.lstat()
        if status.st_uid != self.directory.stat().st_uid or status.st_mode & 0o077:
            raise EmbeddedError(
                f"{path} belongs to another user; set MAILING_DATA_DIR to a shorter path without spaces"
            )
        return path

    def run(self, program: str, *arguments: str) -> str | None:
        """Run a PostgreSQL program to its end. Return its output if it failed."""
        begin = self.log_bytes()
        return self.output_since(begin) if self.spawn(program, *arguments).wait() else None

    def spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a PostgreSQL program. Its output goes to the log: a server would keep a pipe open."""
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - a fixed program, no shell
                [self.binaries.directory / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.data_dir,
                # neither PGPORT and the like nor our secrets; macOS wants some locale set
                env={"PATH": os.defpath, "LC_ALL": "C", "PGDATA": str(self.directory)},
                start_new_session=True,  # Ctrl-C reaches us alone: half an initdb would be thrown away
                user=self._account.uid,
                group=self._account.gid,
                extra_groups=self._account.groups,
            )

    def log_bytes(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def output_since(self, begin: int) -> str:
        """Return what was written to the log after its first `begin` bytes."""
        with self.log.open("rb") as log:
            log.seek(begin)
            return log.read().decode(errors="replace")

    def _is_initialised(self) -> bool:
        version = self.directory / "PG_VERSION"
        if not self.directory.exists():
            return False
        if not version.exists():
            raise EmbeddedError(f"{self.directory} is not a PostgreSQL cluster; move it away and start again")
        if (found := self._major()) != self.binaries.major:
            raise EmbeddedError(
                f"{self.directory} was created by PostgreSQL {found}, this is {self.binaries.major}; "
                "dump it with the old version and restore it, or move it away"
            )
        return True

    def _major(self) -> int | None:
        """Return the version that created the cluster, None without one."""
        try:
            return int((self.directory / "PG_VERSION").read_text())
        except (OSError, ValueError):
            return None


def socket_dir_of(data_dir: Path) -> Path:
    """Return the cluster's directory if a socket address and a URL can hold its path, else one in /tmp for it.

    It is the same for every process, however the path is spelled, before the cluster exists and after every restart.
    """
    directory = data_dir / DIRECTORY
    path = f"{directory}/.s.PGSQL.{PORT}"
    if len(path) <= MAX_SOCKET_PATH_BYTES and re.fullmatch(r"[A-Za-z0-9/._-]+", path):
        return directory
    status = data_dir.stat()
    return SOCKETS / f"mailing-{status.st_uid}-{status.st_dev:x}-{status.st_ino:x}"


_COMPLAINT = re.compile(r"(FATAL|PANIC|error):(?!\s+the database system is ).*")


def complaint(output: str) -> str:
    """Pick the line with the reason from the output of a PostgreSQL program, not what it told its clients."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    complaints = [found[0] for line in lines if (found := _COMPLAINT.search(line))]
    return (complaints or lines[-1:] or ["no output"])[0]
