"""URLs in settings: which are allowed, and which part may be shown."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def host_of(address: str) -> str:
    """Return a URL without its path, which may contain a secret."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def http_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_base(address: str) -> bool:
    """Whether a URL can be followed by paths and has no credentials, which are only in the token."""
    try:
        parts = urlsplit(address)
        is_port = parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:  # a port that is not a number, or too large; a label that no resolver takes
        return False
    plain = not (parts.query or parts.fragment or "@" in parts.netloc or " " in address) and address.isprintable()
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and is_port and plain


def is_safe(address: str) -> bool:
    """Whether a URL is https, or http to this machine."""
    try:
        parts = urlsplit(address)
    except ValueError:  # brackets that hold no address
        return False
    host = parts.hostname or ""
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def is_public(address: str) -> bool:
    """Whether a URL can be followed by paths, and is https or stays in a private network.

    Receipts come to it, and only their secret address proves where they come from, so it must not be readable in
    transit. Providers and browsers name its host in ASCII, an international name as `xn--…`.
    """
    if not (address.isascii() and is_base(address)):
        return False
    parts = urlsplit(address)
    host = parts.hostname or ""
    try:
        inside = ip_address(host).is_private
    except ValueError:
        inside = "." not in host or host.endswith((".localhost", ".internal"))
    return parts.scheme == "https" or inside
