"""Which names of this server a Host header may have."""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from mailing.settings import Settings

MAX_LENGTH: Final = 300
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?", re.IGNORECASE)


def hosts_of(settings: Settings) -> frozenset[str]:
    """Return the configured names. Loopback addresses are always allowed."""
    names = [
        *(settings.allowed_hosts or "").split(","),
        urlsplit(settings.public_url or "").hostname or "",
        settings.host,
    ]
    return normalized(names)


def normalized(hosts: Iterable[str]) -> frozenset[str]:
    return frozenset({"localhost", *(_normalize(host.strip().strip("[]")) for host in hosts if host.strip())})


@lru_cache(1024)
def is_served(host: str, *, known: frozenset[str], here: str | None) -> bool:
    """Check a Host header. `here` is the address that the connection was made to."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = _normalize(found[1] or found[2])
    address = _address(name)
    return name in known or name == _normalize(here or "") or (address is not None and address.is_loopback)


def _normalize(name: str) -> str:
    """Return the canonical spelling of a name or address."""
    address = _address(name)
    return str(address) if address else name.lower().removesuffix(".")


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(name)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
