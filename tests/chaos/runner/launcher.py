"""One life of a process of the product, which gets orders while it lasts, as lines of `failpoint_process`.

`executed` is how `mailing up` starts a process, imports and all: 3 s of computing. `forked` copies a process that has
imported everything already: for runs that must be quick. Both end a life that lasts longer than its block by SIGKILL.
"""

import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chaos.runner import failpoint_process
from support import forks
from support.processes import Process, running


@dataclass(frozen=True)
class Life:
    process: Process
    tell: Callable[[str], object]


Launch = Callable[[Sequence[str], Mapping[str, str], Path], AbstractAsyncContextManager[Life]]
"""Takes arguments and environment of `failpoint_process`, and the file that its output is appended to."""


@asynccontextmanager
async def executed(arguments: Sequence[str], env: Mapping[str, str], log: Path) -> AsyncIterator[Life]:
    command = (sys.executable, failpoint_process.__file__, *arguments)
    async with running(*command, log=log, end=signal.SIGKILL, env=env, cwd=log.parent, stdin=PIPE) as process:
        orders = process.stdin
        assert orders
        yield Life(process, lambda order: orders.write(f"{order}\n".encode()))


@asynccontextmanager
async def forked(arguments: Sequence[str], env: Mapping[str, str], log: Path) -> AsyncIterator[Life]:
    theirs, ours = forks.LOADED.Pipe(duplex=False)
    work = partial(failpoint_process.main_of_fork, arguments, theirs)

    def tell(order: str) -> None:
        with suppress(OSError):  # it has just ended
            ours.send(order)

    with ours:
        async with forks.forked(work, env=env, cwd=log.parent, outputs=(log, log)) as process:
            theirs.close()
            yield Life(process, tell)
