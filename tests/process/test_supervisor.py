import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from mailing.process import local_stack, supervisor
from mailing.process.ports import free_port
from mailing.process.supervisor import Child, Signals, delay_before_restart, supervise
from mailing.settings import Settings
from support.processes import is_running, running, until

# each child first writes its pid into the file named by its first argument
BORN = "import os, signal, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); "
FOR_EVER_S = 3600.0  # the test would run into its own limit
SLEEPER = BORN + "time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER
SUPERVISED = "from mailing.process.supervisor import exit_with_parent; exit_with_parent(grace_s=0.3); "
SUPERVISOR = """
import asyncio, os, sys
from mailing.process.supervisor import Child, Signals, supervise

async def main():
    signals = Signals()
    signals.listen()
    python = [sys.executable, "-c"]
    children = [Child(code, [*python, code, sys.argv[1]], os.environ) for code in sys.argv[2:]]
    await supervise(children, signals=signals, on_event=lambda what: print(what, flush=True))

asyncio.run(main())
"""


class Run:
    """A supervisor at work in this process, and what it said."""

    def __init__(self) -> None:
        self.signals = Signals()
        self.said: list[str] = []
        self.result: Child | None = None

    def on_event(self, what: str) -> None:
        self.said.append(what)
        raise BrokenPipeError  # the reader of the log is gone: that ends no child


class Children:
    """Processes that write their pids into one file, and a supervisor of them in this process."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "pids"

    def pids(self) -> list[int]:
        """Return those of all that were ever started, in order."""
        return [int(line) for line in self.file.read_text().split()] if self.file.exists() else []

    @asynccontextmanager
    async def supervised(self, *codes: str) -> AsyncIterator[Run]:
        run = Run()
        children = [
            Child(f"child-{n}", [sys.executable, "-c", code, str(self.file)], os.environ)
            for n, code in enumerate(codes)
        ]
        async with asyncio.timeout(60):
            task = asyncio.create_task(supervise(children, signals=run.signals, on_event=run.on_event))
            try:
                yield run
                run.signals.stop.set()
                run.result = await task
            finally:
                task.cancel()


@pytest.fixture
def children(tmp_path: Path) -> Children:
    return Children(tmp_path)


async def test_a_killed_child_comes_back(children: Children) -> None:
    async with children.supervised(SLEEPER) as run:
        await until(children.pids)
        os.kill(children.pids()[0], signal.SIGKILL)
        await until(lambda: len(children.pids()) == 2)
    assert run.said == [f"child-0 (pid {children.pids()[0]}) was killed by SIGKILL; restarting now"]


async def test_a_child_that_dies_at_every_start_is_started_less_and_less_often(children: Children) -> None:
    async with children.supervised(BORN + "sys.exit(1)") as run:
        began = time.monotonic()
        await until(lambda: len(run.said) >= 3)
    assert time.monotonic() - began >= 0.5
    assert [line.partition(";")[2] for line in run.said][:3] == [
        " restarting now",
        " restarting in 0.5 s",
        " restarting in 1 s",
    ]
    assert "exited with status 1" in run.said[0]


def test_the_delay_grows_to_five_seconds() -> None:
    assert [delay_before_restart(deaths) for deaths in (1, 2, 3, 4, 5, 6, 7, 10_000)] == [0, 0.5, 1, 2, 4, 5, 5, 5]


async def test_a_child_that_had_settled_is_started_at_once_again(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STABLE_AFTER_S", 0)
    async with children.supervised(BORN) as run:
        await until(lambda: len(children.pids()) >= 4)
    assert not [line for line in run.said if "again in" in line]


async def test_stop_ends_all_without_waiting_for_the_grace(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "GRACE_S", FOR_EVER_S)
    async with children.supervised(SLEEPER, SLEEPER, SLEEPER) as run:
        await until(lambda: len(children.pids()) == 3)
    assert not any(is_running(pid) for pid in children.pids())
    assert (run.said, run.result) == ([], None)


async def test_a_child_deaf_to_sigterm_is_killed_after_its_grace(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "GRACE_S", 0.5)
    async with children.supervised(STUBBORN) as run:
        await until(children.pids)
        begin = time.monotonic()
    assert time.monotonic() - begin >= supervisor.GRACE_S
    assert not is_running(children.pids()[0])
    assert run.said == [f"child-0 (pid {children.pids()[0]}) was killed by SIGKILL"]


async def test_a_second_signal_does_not_wait(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "GRACE_S", FOR_EVER_S)
    async with children.supervised(STUBBORN) as run:
        await until(children.pids)
        run.signals.advance()
        await asyncio.sleep(0.1)
        assert is_running(children.pids()[0])
        run.signals.advance()
    assert not is_running(children.pids()[0])


async def test_a_child_that_calls_its_configuration_wrong_stops_all(children: Children) -> None:
    async with children.supervised(SLEEPER, BORN + "time.sleep(0.3); sys.exit(2)") as run:
        await until(run.signals.stop.is_set)
    assert run.result is not None
    assert run.result.name == "child-1"
    assert "exited with status 2 (wrong usage or configuration); stopping" in run.said[0]
    assert not any(is_running(pid) for pid in children.pids())


async def test_what_a_dead_child_left_running_is_ended(children: Children) -> None:
    grandchild = f"import subprocess; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}, sys.argv[1]]); "
    async with children.supervised(BORN + grandchild + "time.sleep(60)"):
        await until(lambda: len(children.pids()) == 2)
        os.kill(children.pids()[0], signal.SIGKILL)
        await until(lambda: not is_running(children.pids()[1]))


async def test_a_program_that_cannot_be_started_is_tried_again() -> None:
    run = Run()
    child = Child("worker", ["/nonexistent/program"], {})
    task = asyncio.create_task(supervise([child], signals=run.signals, on_event=run.on_event))
    await until(lambda: len(run.said) == 2)
    run.signals.stop.set()
    assert await task is None
    assert run.said[0] == "worker cannot be started (No such file or directory); restarting now"


async def test_cancelled_it_leaves_nothing_running(children: Children) -> None:
    child = Child("worker", [sys.executable, "-c", SLEEPER, str(children.file)], os.environ)
    task = asyncio.create_task(supervise([child], signals=Signals(), on_event=print))
    await until(children.pids)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_running(children.pids()[0])


async def test_children_end_when_the_supervisor_is_killed(children: Children) -> None:
    """Also one that is deaf to the SIGTERM it sends itself."""
    codes = (SUPERVISED + SLEEPER, SUPERVISED + STUBBORN)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SUPERVISOR, children.file, *codes)
    await until(lambda: len(children.pids()) == 2)
    process.kill()
    await process.wait()
    await until(lambda: not any(is_running(pid) for pid in children.pids()))


async def test_a_log_that_takes_nothing_more_keeps_no_child_from_its_restart_nor_its_end(children: Children) -> None:
    reader, log = os.pipe()
    os.set_blocking(log, False)
    with suppress(BlockingIOError):
        while True:
            os.write(log, bytes(4096))
    os.set_blocking(log, True)
    command = (sys.executable, "-c", SUPERVISOR, children.file, BORN)
    async with running(*command, stdout=log):
        await until(lambda: len(children.pids()) >= 2)
    os.close(reader)
    os.close(log)


async def test_ctrl_c_ends_the_supervisor_and_its_children(children: Children) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SUPERVISOR, children.file, SLEEPER)
    await until(children.pids)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(5):
        assert await process.wait() == 0
    assert not is_running(children.pids()[0])


async def test_up_gives_its_worker_time_for_the_longest_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    graces_s: list[float] = []

    async def note(*_: object, grace_s: float = supervisor.GRACE_S, **_others: object) -> None:
        graces_s.append(grace_s)

    monkeypatch.setattr(local_stack, "supervise", note)
    nowhere = f"postgresql://127.0.0.1:{free_port()}/mailing"
    settings = Settings(data_dir=str(tmp_path), port=free_port(), database_url=nowhere, gateway_timeout_s=20)
    with pytest.raises(ConnectionRefusedError):
        async with local_stack.local_stack(settings, sandbox_port=free_port(), signals=Signals(), echo=print):
            pass
    assert graces_s == [supervisor.worker_grace_s(20)]
    assert graces_s[0] > 20
