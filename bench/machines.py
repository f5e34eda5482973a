"""Separate machines for workers, as far as the network is concerned: a network namespace each, joined by a veth pair.

They cannot reach our loopback; servers for them listen on HOST. It needs Linux, `ip` and root.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bench.children import program

HOST = "10.213.0.1"  # our address, on a private network


def possible() -> bool:
    return os.geteuid() == 0 and program("ip") is not None


@contextmanager
def address() -> Iterator[None]:
    _ip("addr", "add", f"{HOST}/32", "dev", "lo")
    try:
        yield
    finally:
        _ip("addr", "del", f"{HOST}/32", "dev", "lo")


@contextmanager
def machines(count: int) -> Iterator[list[Sequence[str]]]:
    """Create them. Yield the command prefix of each."""
    with ExitStack() as stack:
        yield [stack.enter_context(_machine(number)) for number in range(1, count + 1)]


@contextmanager
def _machine(number: int) -> Iterator[Sequence[str]]:
    name, cable = f"mailing-bench-{number}", f"mailing{number}"
    here, there = f"10.213.{number}.1", f"10.213.{number}.2"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)  # removed with the namespace
        _ip("addr", "add", f"{here}/30", "dev", cable)
        _ip("link", "set", cable, "up")
        _ip("-n", name, "addr", "add", f"{there}/30", "dev", "eth0")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "route", "add", "default", "via", here)
        yield ["ip", "netns", "exec", name]
    finally:
        _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
