"""Check that a port is free before a process serves it."""

import socket

from mailing.errors import MailingError


def require_free_port(host: str, port: int, setting: str = "MAILING_HOST or MAILING_PORT") -> None:
    """Raise MailingError if nothing can listen there: in use, not an address of this machine, no such name."""
    if not host:
        raise MailingError(f"the host is empty; set {setting}")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise MailingError(f"{host}:{port} is not available ({reason}); set {setting}") from None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
