"""Real PostgreSQL for every test: one server a run, the real migrations once, copied databases."""

import asyncio
import gc
import os
from collections import defaultdict
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import asyncpg
import pytest

from support.distribution import distribute
from support.postgres import URL, PostgresServer, create_database, postgres_server
from support.roles import grant

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))  # in one of them

_server = pytest.StashKey[PostgresServer]()
_ready = pytest.StashKey[Future[None]]()  # once the server has the template


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For `-n auto`: three more than there are processors, because many a test waits for other processes.

    A part of the suite is done in less time than two more take to load the API.
    """
    processors = os.cpu_count() or 1
    return processors + 3 if config.args_source is pytest.Config.ArgsSource.TESTPATHS else processors


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector what stays until the end, modules and tests; then it is as rare as in a worker.

    Until here it was off.
    """
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let each worker begin with other modules, so that what has no compiled file yet is compiled by one of them."""
    report = yield
    if WORKERS and isinstance(collector, pytest.Directory):
        begin = len(report.result) * int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) // WORKERS
        report.result = report.result[begin:] + report.result[:begin]
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Distribute what the selection by marker has left: in the same order in each worker."""
    if WORKERS:
        items.sort(key=lambda item: item.path)
        slow, fast = defaultdict[object, list[pytest.Item]](list), defaultdict[object, list[pytest.Item]](list)
        for item in items:
            if item.get_closest_marker("slow") or _is_in_browser(item):
                slow[_group(item)].append(item)
            else:
                fast[item.path].append(item)
        items[:] = distribute(list(slow.values()), list(fast.values()), WORKERS)


def _group(item: pytest.Item) -> object:
    """Return what the item shares with others of one worker: each that has a test in the browser starts one."""
    group = item.get_closest_marker("xdist_group")
    return group.args[0] if group else "browser" if _is_in_browser(item) else item


def _is_in_browser(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and "chromium" in item.fixturenames


def pytest_configure(config: pytest.Config) -> None:
    """Start the server in the controlling process, while tests are collected.

    Parallel workers find its address in the environment.
    """
    gc.disable()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return
    config.stash[_server] = server = postgres_server(os.environ.get(URL))
    os.environ[URL] = server.url
    config.stash[_ready] = ThreadPoolExecutor().submit(_prepare, server)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Run no test before the server is ready; parallel workers get theirs from the loop that waits here."""
    if ready := session.config.stash.get(_ready, None):
        ready.result()


def pytest_unconfigure(config: pytest.Config) -> None:
    if server := config.stash.get(_server, None):
        wait([config.stash[_ready]])
        server.stop()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Load the fixtures where tests run: the process that controls them needs no API."""
    if not session.config.pluginmanager.has_plugin("dsession"):
        session.config.pluginmanager.import_plugin("support.fixtures")


def pytest_report_header(config: pytest.Config) -> str:
    server = config.stash.get(_server, None)
    return f"PostgreSQL: {server.kind}" if server else ""


def _prepare(server: PostgresServer) -> None:
    server.start()
    asyncio.run(_make_template(server.url))


async def _make_template(url: str) -> None:
    admin = await asyncpg.connect(url)
    await admin.execute("DROP DATABASE IF EXISTS mailing_template WITH (FORCE)")
    await admin.close()
    await grant(await create_database(url, "mailing_template"))
