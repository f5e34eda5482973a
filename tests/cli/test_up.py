"""`mailing up` and `mailing demo` as a newcomer starts them: real processes, an embedded PostgreSQL of their own."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from mailing.process.ports import free_port
from support import ROOT
from support.documents import blocks, same_json, same_text
from support.postgres import memory
from support.processes import MAILING, clean_environment, is_listening, is_running, running, until
from support.running_site import PATIENCE_S, follow, free_port_with_the_next, up

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("embedded")]

CUT = "----8<----"  # between the answers of a script


@pytest.fixture
def home() -> Iterator[Path]:
    """Not pytest's: as root the server needs a way in, which each pytest that starts on this machine closes again."""
    with tempfile.TemporaryDirectory(prefix="mailing-tests-", dir=memory()) as directory:
        yield Path(directory).resolve()


@pytest.mark.parametrize(
    ("command", "code", "last_line"),
    [("up", 0, "stopped"), ("demo", 1, "mailing: stopped before every message was sent and reported")],
)
async def test_ctrl_c_while_the_database_is_set_up_ends_it_cleanly(
    home: Path, command: str, code: int, last_line: str
) -> None:
    env = clean_environment(MAILING_PORT=str(free_port_with_the_next()), TMPDIR=str(home))
    start = partial(running, *MAILING, command, cwd=home, env=env, stdout=PIPE, stderr=STDOUT)
    async with start(start_new_session=True) as process:
        await until(lambda: [*home.glob("*/postgres.new-*/base")], seconds=PATIENCE_S)
        os.killpg(process.pid, signal.SIGINT)  # a terminal signals all processes of the group
        said = (await process.communicate())[0].decode()
    assert process.returncode == code, said
    assert said.endswith(f"{last_line}\n")
    assert "Traceback" not in said


async def test_without_its_database_up_says_so_once_and_leaves_no_child(home: Path) -> None:
    port = free_port_with_the_next()
    url = f"postgresql://mailing@127.0.0.1:{free_port()}/mailing"
    env = clean_environment(MAILING_PORT=str(port), MAILING_DATABASE_URL=url)
    async with running(*MAILING, "up", cwd=home, env=env, stdout=PIPE, stderr=STDOUT) as process:
        said = (await process.communicate())[0].decode()  # until nobody holds the pipe
    assert process.returncode == 1
    assert re.fullmatch(r"mailing: .*\n", said), said
    assert not is_listening(port)


@pytest.mark.timeout(300)  # two starts, one after the other
async def test_after_a_kill_of_up_nothing_is_left_but_the_data_with_which_the_next_up_sends(home: Path) -> None:
    port = free_port_with_the_next()
    async with up(home, port) as process, _api(home, port) as api:
        await api.post("/clients/", json={"phone": "79161234567", "timezone": "Europe/Moscow"})
        children = _children(process.pid)
        process.kill()
        await process.wait()
        await until(lambda: not any(map(is_running, children)), seconds=PATIENCE_S)
    async with up(home, port) as process, _api(home, port) as api:
        found = (await api.get("/clients/")).json()["items"]
        assert [client["phone"] for client in found] == ["79161234567"]
        await _sends_though_its_worker_is_killed(process.pid, api)
        ledger = httpx.get(f"http://127.0.0.1:{port + 1}/ledger", trust_env=False).json()["items"]
        assert [(item["id"], item["phone"], item["repeats"]) for item in ledger] == [(1, 79161234567, 0)]
        children = _children(process.pid)
        assert len(children) == 3
        await _a_second_one_is_refused(home, port)
    _ended_cleanly(process, home)
    assert [pid for pid in children if is_running(pid)] == []


async def _sends_though_its_worker_is_killed(up_pid: int, api: httpx.AsyncClient) -> None:
    for worker in _pids_of(up_pid, "worker"):
        os.kill(worker, signal.SIGKILL)
    mailing = {"text": "hi", "starts_at": "2026-01-01T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}
    assert (await api.post("/mailings/", json=mailing)).status_code == 201
    assert await _sent(api) == {"planned": 1, "sent": 1}


async def _a_second_one_is_refused(home: Path, port: int) -> None:
    env = clean_environment(MAILING_PORT=str(port))
    async with running(*MAILING, "up", cwd=home, env=env, stdout=PIPE, stderr=PIPE) as refused:
        complaint = (await refused.communicate())[1].decode()
    assert refused.returncode == 1
    assert re.fullmatch(
        rf"mailing: 127\.0\.0\.1:{port} is not available \(.*\); set MAILING_HOST or MAILING_PORT\n", complaint
    )


def _ended_cleanly(process: Process, home: Path) -> None:
    assert process.returncode == 0
    assert not (home / ".data" / "postgres" / "postmaster.pid").exists()
    told = (home / "up.log").read_text()
    assert "Traceback" not in told
    assert [f"{name} {what}" in told for name in ("api", "worker") for what in ("started", "stopped")] == [True] * 4


@pytest.mark.skipif(not shutil.which("curl"), reason="the README speaks curl, and there is none here")
async def test_the_readme_can_be_followed_word_for_word(home: Path) -> None:
    (script,) = [code.text for code in blocks(ROOT / "README.md") if code.language == "sh"]
    port = free_port_with_the_next()
    async with up(home, port) as process:
        said = await follow(script, home=home, port=port)
        assert '"counts":{"planned":3,' in said
        assert '"errors"' not in said
    _ended_cleanly(process, home)


@pytest.mark.timeout(300)  # forty commands, one after the other
@pytest.mark.skipif(not shutil.which("curl"), reason="the tutorial speaks curl, and there is none here")
async def test_the_tutorial_can_be_followed_word_for_word_and_its_answers_are_the_ones_shown(home: Path) -> None:
    page = blocks(ROOT / "docs" / "tutorial.md")
    assert [code.language for code in page[::2]] == ["sh"] * (len(page) // 2)
    script = f"\necho '{CUT}'\n".join(code.text for code in page[::2])
    port = free_port_with_the_next()
    async with up(home, port):
        answers = (await follow(script, home=home, port=port)).split(CUT)
    same = {"js": same_json, "text": same_text}
    wrong = [
        f"shown:\n{code.text}\nanswered:\n{answer}"
        for code, answer in zip(page[1::2], answers, strict=True)
        if not same[code.language](code.text, answer)
    ]
    assert wrong == [], "\n\n".join(wrong)


async def test_the_demo_sends_to_every_sample_client_and_exits_0(home: Path) -> None:
    async with running(*MAILING, "demo", cwd=home, env=clean_environment(), stdout=PIPE, stderr=STDOUT) as demo:
        said = (await demo.communicate())[0].decode()
    assert demo.returncode == 0, said
    assert "1,000 of 1,000 sent" in said
    assert "warning" not in said
    assert list(home.iterdir()) == []


def _api(home: Path, port: int) -> httpx.AsyncClient:
    key = (home / ".data" / "api-key").read_text().strip()
    url = f"http://127.0.0.1:{port}/mailing/api"
    return httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False)


async def _sent(api: httpx.AsyncClient) -> dict[str, int]:
    async def is_finished() -> bool:
        return bool((await api.get("/statistics/1/")).json()["status"] == "finished")

    await until(is_finished, seconds=PATIENCE_S, every_s=0.1)
    counts = (await api.get("/statistics/1/")).json()["counts"]
    return {name: count for name, count in counts.items() if count}


def _children(pid: int) -> list[int]:
    return [child for name in ("api", "worker", "sandbox") for child in _pids_of(pid, name)]


def _pids_of(parent: int, command: str) -> list[int]:
    """Return the children of `parent` that run `mailing <command>`."""
    return [pid for pid, ppid, args in _processes() if ppid == parent and f"mailing {command}" in args]


def _processes() -> Iterator[tuple[int, int, str]]:
    """(pid, parent's pid, command line) of each process: from /proc, or from ps where there is none (macOS)."""
    if not Path("/proc/self").exists():
        shown = subprocess.run(["/bin/ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
        for line in shown.stdout.splitlines():
            pid, ppid, args = line.split(maxsplit=2)
            yield int(pid), int(ppid), args
        return
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            ppid = (directory / "stat").read_text().rpartition(")")[2].split()[1]
            yield int(directory.name), int(ppid), (directory / "cmdline").read_text().replace("\0", " ")
