"""Debian's Kannel with its fake SMSC, as `deploy/kannel` configures it."""

import asyncio
import random
import re
import shutil
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from support.processes import is_listening, stop, until

CONFIGURATION = Path(__file__).parents[2] / "deploy/kannel/kannel.conf"
FAKESMSC = Path("/usr/lib/kannel/test/fakesmsc")
NUMBER = "79160000000"
MISSING = "Kannel is not installed: apt-get install kannel kannel-extras"
SENT = re.compile(r"Sent SMS .*\[to:\+(\d+)\] \[flags:-?\d+:(-?\d+):.*\[msg:\d+:(.*)\] \[udh:")
UCS2 = "2"


def is_installed() -> bool:
    return bool(shutil.which("bearerbox") and shutil.which("smsbox") and FAKESMSC.exists())


class Kannel:
    """bearerbox, smsbox and fakesmsc. `password` is that of the user mailing."""

    password = "kannel-secret"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ports = {number: _lasting_port() for number in (13000, 13001, 13013, 13100)}
        self._boxes: list[asyncio.subprocess.Process] = []
        self._smsc: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._ports[13013]}"

    async def start(self, *, replies_to: str = "") -> None:
        self._configure(replies_to)
        for box, port in (("bearerbox", 13001), ("smsbox", 13013)):
            self._boxes.append(await self._run(box, "-v", "4", str(self._file)))
            await self._listening(port)
        await self.connect_smsc()

    async def connect_smsc(self, message: str = "hello") -> None:
        """Let the SMSC connect; its phone sends one message as it does."""
        await self.disconnect_smsc()
        words = f"{NUMBER} 1000 text {message}"
        await until(lambda: _listens(self._ports[13100]), seconds=30)
        smsc = ("-H", "127.0.0.1", "-r", str(self._ports[13100]), "-i", "3600", "-m", "1", words)
        self._smsc = await self._run(str(FAKESMSC), *smsc)

    async def kill(self) -> None:
        """Kill bearerbox. smsbox ends by itself 10 s later; now and then it only says so, and is killed, too."""
        self._boxes[0].kill()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._boxes[1].wait(), 15)
        await self.kill_all()

    async def kill_all(self) -> None:
        """Kill smsbox too, which would end 10 s after bearerbox."""
        for box in self._boxes:
            await stop(box, signal.SIGKILL)
        self._boxes.clear()

    async def stop(self) -> None:
        await self.kill_all()
        await self.disconnect_smsc()

    async def disconnect_smsc(self) -> None:
        if self._smsc:
            await stop(self._smsc, signal.SIGKILL)

    def sent(self) -> Counter[str]:
        """Return how many messages Kannel's own log says that each phone was sent."""
        return Counter(phone for phone, _, _ in self._logged())

    def texts(self) -> set[str]:
        """Return the texts in its log, of those that it sent as UCS-2."""
        return {bytes.fromhex(text).decode("utf-16-be") for _, coding, text in self._logged() if coding == UCS2}

    def _logged(self) -> list[tuple[str, str, str]]:
        return SENT.findall(self._log())

    def _log(self) -> str:
        return (self.directory / "access.log").read_text(errors="replace")

    def _configure(self, replies_to: str) -> None:
        told = CONFIGURATION.read_text()
        for number, port in self._ports.items():
            told = re.sub(rf"\b{number}\b", str(port), told)
        for shipped in ("/var/spool/kannel", "/var/log/kannel"):
            told = told.replace(shipped, str(self.directory))
        told = told.replace("CHANGE-ME", self.password).replace("http-queue-delay = 5", "http-queue-delay = 1")
        if replies_to:
            told = told.replace('text = ""', f'get-url = "{replies_to}"')
        for spool in ("store", "dlr"):
            (self.directory / spool).mkdir(exist_ok=True)
        self._file.write_text(told)

    @property
    def _file(self) -> Path:
        return self.directory / "kannel.conf"

    async def _listening(self, shipped_port: int) -> None:
        await until(lambda: is_listening(self._ports[shipped_port]), seconds=30)

    async def _run(self, *command: str) -> asyncio.subprocess.Process:
        with (self.directory / "output.log").open("ab") as output:
            return await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)


@asynccontextmanager
async def kannel_in(directory: Path) -> AsyncIterator[Kannel]:
    kannel = Kannel(directory)
    try:
        yield kannel
    finally:
        await kannel.stop()


def _listens(port: int) -> bool:
    """Look without connecting: bearerbox would take the connection for the SMSC's, and send messages into it."""
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def _lasting_port() -> int:
    """Return a free port that no outgoing connection is given, so that it is free again after bearerbox was killed."""
    while True:
        port = random.randrange(20_000, 30_000)  # noqa: S311 - not a secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
