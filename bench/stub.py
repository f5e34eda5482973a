"""The gateway stub: nginx, which accepts every message and logs its id.

The sandbox and the fault run's gateway are Python programs on one processor: they would be the limit that is measured.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.children import program, running, until
from bench.errors import BenchError
from mailing.process.ports import free_port
from support.processes import is_listening

ECHO = Path(
    "/usr/lib/nginx/modules/ngx_http_echo_module.so"
)  # Debian's libnginx-mod-http-echo: nginx itself cannot delay
DELAY_S = 0.05

_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/error.log;
{module}
events {{ worker_connections 1024; }}
http {{
    map $http_x_kannel_to $called {{ default $uri; ~^\\+79(?<number>[0-9]+)$ /$number; }}
    log_format call '$msec $called $status';
    access_log {home}/calls.log call buffer=64k flush=100ms;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    keepalive_timeout 60s;
    keepalive_requests 1000000;
    default_type application/json;
    server {{
        listen {host}:{port} backlog=1024;
        location /v1/send/ {{ return 200 '{{"code":0,"message":"OK"}}'; }}
        location /cgi-bin/sendsms {{ return 202 '0: Accepted for delivery'; }}
        location /unlogged/ {{ access_log off; return 200 '{{"code":0,"message":"OK"}}'; }}
        {delayed}
    }}
}}
"""
_DELAYED = """location /slow/send/ {{ echo_sleep {delay}; echo -n '{{"code":0,"message":"OK"}}'; }}"""


@dataclass(frozen=True)
class Call:
    """`at` is the time of the answer, in seconds since 1970."""

    at: float
    message_id: int


@dataclass(frozen=True)
class Stub:
    """`pid` is 0 without nginx: then stages that need it are skipped."""

    home: Path
    host: str
    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    @property
    def kannel_url(self) -> str:
        """The URL that answers as Kannel does. The id of a message is its phone, after 79."""
        return f"http://{self.host}:{self.port}"

    @property
    def unlogged_url(self) -> str:
        return f"http://{self.host}:{self.port}/unlogged"

    @property
    def slow_url(self) -> str:
        """The URL that answers after DELAY_S. Raise BenchError without the module for it."""
        if not ECHO.exists():
            raise BenchError(f"{ECHO} is needed: apt-get install libnginx-mod-http-echo")
        return f"http://{self.host}:{self.port}/slow"

    def forget(self) -> None:
        os.truncate(self.log, 0)

    def logged(self) -> int:
        """Count the calls in the log, which lags 0.1 s."""
        return self.log.read_bytes().count(b"\n")

    def calls(self) -> list[Call]:
        """Read the calls. Raise BenchError if one was not accepted."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        if bad := [line for line in lines if line[2] not in {"200", "202"}]:
            raise BenchError(f"{len(bad)} calls were refused by the stub: {bad[0]}")
        return [Call(float(at), int(re.sub(r".*/", "", path))) for at, path, _ in lines]

    def check(self, expected: Iterable[int]) -> None:
        """Raise BenchError unless exactly these messages were called, once each."""
        calls, wanted = Counter(call.message_id for call in self.calls()), set(expected)
        lost, repeated = wanted - calls.keys(), [each for each, times in calls.items() if times > 1]
        strange = calls.keys() - wanted
        if lost or repeated or strange:
            raise BenchError(f"{len(lost)} messages lost, {len(repeated)} repeated, {len(strange)} unexpected")

    @property
    def log(self) -> Path:
        return self.home / "calls.log"


@contextmanager
def running_stub(home: Path, *, host: str = "127.0.0.1") -> Iterator[Stub]:
    port, nginx = free_port(), program("nginx")
    if not nginx:
        yield Stub(home, host, port, pid=0)
        return
    home.mkdir()
    delayed = _DELAYED.format(delay=DELAY_S) if ECHO.exists() else ""
    module = f"load_module {ECHO};" if ECHO.exists() else ""
    configuration = _CONFIGURATION.format(home=home, host=host, port=port, module=module, delayed=delayed)
    (home / "nginx.conf").write_text(configuration)
    errors = home / "error.log"
    with running([nginx, "-p", str(home), "-c", str(home / "nginx.conf"), "-e", str(errors)], errors) as process:
        until(lambda: is_listening(port, host), "nginx answers", within_s=10)
        yield Stub(home, host, port, process.pid)
