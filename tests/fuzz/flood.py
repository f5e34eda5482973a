"""`make floods`: every flood of `floods` against one `mailing api`, as a table."""

import asyncio
import sys
import tempfile
from pathlib import Path

from fuzz.floods import FLOODS, MEGABYTE, resident, watched
from support.running_site import free_port_with_the_next, up


async def main(names: list[str]) -> None:
    port = free_port_with_the_next()
    with tempfile.TemporaryDirectory(prefix="mailing-floods-") as home:
        Path(home).chmod(0o711)
        async with up(Path(home), port):
            pid = _api_of(Path(home))
            print(f"{'flood':28}{'grown MB':>10}{'longest wait s':>16}{'answered':>10}")
            for name in names or FLOODS:
                seen = await watched(FLOODS[name], port=port, pid=pid)
                print(f"{name:28}{seen.grown / MEGABYTE:10.1f}{seen.waited_s:16.3f}{seen.answered:10}", flush=True)
                await asyncio.sleep(1)
            print(f"resident at the end: {resident(pid) / MEGABYTE:.0f} MB")


def _api_of(home: Path) -> int:
    """Return the API process that `up` started."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"api" in words[2:] and (process / "cwd").readlink() == (home / ".data").resolve():
                return int(process.name)
        except OSError:
            continue
    sys.exit("no mailing api was found")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
