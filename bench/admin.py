"""Measure the admin page with 1,000,000 clients and 1,000,000 messages, and with 100 open tabs.

    MAILING_DATABASE_URL=postgresql://… PYTHONPATH=tests python -m bench.admin [pages] [tabs]

The database is filled by SQL, unless it has clients, and analysed. Then an API process of its own is called over HTTP,
signed in like a browser. `ms` is the time to the last byte, on one connection. `cpu ms` is the CPU time of the API
process, which depends less on other load. Then tabs poll one running mailing as htmx does.
"""

import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg
import httpx

from bench.cost import cpu_s
from mailing.process.ports import free_port
from support.processes import MAILING, running, until_ready

CLIENTS = 1_000_000
ROUNDS = 30
TABS = 100
WATCHED_S = 30
SENT_A_SECOND = 200
PASSWORD = "a password for the benchmark"  # the password of the benchmark's user

ADD_CLIENTS = """
    INSERT INTO client (phone, operator_code, tag, timezone, opted_out)
    SELECT '79' || lpad(n::text, 9, '0'), (900 + n % 90)::text, 'tag-' || n % 200,
        (ARRAY['Europe/Moscow', 'Asia/Omsk', 'Asia/Vladivostok', 'Europe/Kaliningrad'])[1 + n % 4], n % 50 = 0
    FROM generate_series(1, $1::int) n
"""
MAILINGS = """
    INSERT INTO mailing (text, starts_at, ends_at, status, planned_revision, started_at, finished_at,
        released_revision, released_at, released_by)
    SELECT 'Dear customer, from tomorrow on everything is cheaper. Offer number ' || n, now() - interval '1 h',
        now() + interval '2 d', CASE WHEN n < 1000 THEN 'finished' ELSE 'running' END, 1, now() - interval '1 h',
        CASE WHEN n < 1000 THEN now() END, 1, now(), 'bench'
    FROM generate_series(1, 1000) n
"""
# The newest mailing has a message for every client: three quarters are pending, the others have ended.
MESSAGES = """
    INSERT INTO message (mailing_id, client_id, status, counted_attempts, claim_no, maybe_accepted, due_at,
        closes_at, wait_reason,
                         phone, text_revision, finished_at, reason_code)
    SELECT (SELECT max(id) FROM mailing), c.id, s.status, s.tries, s.tries, s.status = 'unknown',
        date_trunc('hour', now()) + make_interval(hours => (c.id % 5)::int), now() + interval '1 d',
        CASE WHEN s.status = 'pending' AND c.id % 5 > 0 THEN 'window' END,
        CASE s.tries WHEN 1 THEN c.phone END, CASE s.tries WHEN 1 THEN 1 END, CASE WHEN s.tries = 1 THEN now() END,
        CASE WHEN s.status IN ('failed', 'unknown') THEN 'not_json' END
    FROM client c CROSS JOIN LATERAL (
        SELECT status, (status <> 'pending')::int AS tries
        FROM (SELECT (ARRAY['sent', 'failed', 'unknown', 'pending'])[1 + least(c.id % 12, 3)] AS status) AS one
    ) AS s
"""
SEND = """
    WITH due AS (SELECT id FROM message WHERE mailing_id = $1 AND status = 'pending' ORDER BY due_at, id LIMIT $2)
    UPDATE message SET status = 'sending', counted_attempts = 1, claim_no = 1, phone = '79000000000', text_revision = 1,
        wait_reason = NULL, lease_until = now() + interval '1 min' FROM due WHERE message.id = due.id
"""
SENT = """
    UPDATE message SET status = 'sent', lease_until = NULL, finished_at = now()
    WHERE mailing_id = $1 AND status = 'sending'
"""


async def main(parts: list[str]) -> None:
    database = await asyncpg.connect(os.environ["MAILING_DATABASE_URL"])
    async with serving() as (api, address):
        await fill(database)
        mailing = await database.fetchval("SELECT max(id) FROM mailing")
        if "pages" in parts:
            await look(database, api, address, mailing)
        if "tabs" in parts:
            await watch(database, api, address, mailing)
    await database.close()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[int, str]]:
    """Run `mailing api` on a migrated database. Yield its process id and address."""
    port = free_port()
    env = os.environ | {"MAILING_PORT": str(port), "MAILING_ADMIN_PASSWORD": PASSWORD, "MAILING_LOG_LEVEL": "warning"}
    with tempfile.TemporaryDirectory() as home:
        async with running(*MAILING, "migrate", env=env, cwd=home) as migrate:
            assert await migrate.wait() == 0
        async with running(*MAILING, "api", env=env, cwd=home) as api:
            address = f"http://127.0.0.1:{port}"
            await until_ready(address, api)
            yield api.pid, address


async def fill(database: asyncpg.Connection) -> None:
    if await database.fetchval("SELECT EXISTS (SELECT FROM client)"):
        return
    for statement, *values in ((ADD_CLIENTS, CLIENTS), (MAILINGS,), (MESSAGES,)):
        await database.execute(statement, *values, timeout=3600)
    await database.execute("VACUUM ANALYZE", timeout=3600)


async def sign_in(browser: httpx.AsyncClient) -> None:
    browser.headers["Sec-Fetch-Site"] = "same-origin"
    answer = await browser.post("/admin/sign-in", data={"name": "admin", "password": PASSWORD})
    assert answer.status_code == 303, answer.text


async def look(database: asyncpg.Connection, api: int, address: str, mailing: int) -> None:
    print(f"{'page':<52}{'rows':>5}{'kB':>8}{'ms':>8}{'p95':>8}{'cpu ms':>8}")
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=60) as browser:
        await sign_in(browser)
        for path in await pages(database, mailing):
            await measure(browser, api, path)
        for path in ("/admin/mailings/plan", f"/admin/mailings/plan?mailing_id={mailing}"):
            await measure(browser, api, path, sent=changed_form())


async def pages(database: asyncpg.Connection, mailing: int) -> list[str]:
    middle = await database.fetchval("SELECT max(id) / 2 FROM client")
    failed = await database.fetchval("SELECT min(id) FROM message WHERE mailing_id = $1 AND status = 'failed'", mailing)
    clients = [f"?after={middle}", "?tag=tag-7", "?ends=4567", "?begins=79000", "?timezone=Asia/Omsk&operator_code=917"]
    return [
        *("/admin/", "/admin/mailings", "/admin/mailings?before=500", "/admin/mailings?q=no+such+words"),
        *("/admin/mailings/new", f"/admin/mailings/{mailing}/edit", f"/admin/mailings/{mailing}"),
        f"/admin/mailings/{mailing}/cancel",
        *(f"/admin/mailings/{mailing}/messages{query}" for query in ("", "?status=failed", "?status=pending")),
        *(f"/admin/messages/{failed}", "/admin/clients", *(f"/admin/clients{query}" for query in clients)),
        *(f"/admin/clients/{middle}", "/admin/statistics", "/admin/gateway", "/admin/gateway/stop", "/admin/users"),
        *("/admin/reports", f"/admin/reports/{datetime.now(UTC).date()}/mail"),
    ]


def changed_form() -> dict[str, str]:
    """Return a mailing of new text to all clients, as the form sends it for a preview."""
    return {"text": "Hello", "zone": "UTC", "ends_at": f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M}"}


async def measure(browser: httpx.AsyncClient, api: int, path: str, *, sent: dict[str, str] | None = None) -> None:
    """Read a page, or with `sent` the part that htmx posts that form for."""

    async def load() -> httpx.Response:
        return await (browser.post(path, data=sent, headers={"HX-Request": "true"}) if sent else browser.get(path))

    answer = await load()
    assert answer.is_success, (path, answer.status_code)
    assert 'class="error"' not in answer.text, path
    took: list[float] = []
    before = cpu_s(api)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        answer = await load()
        took.append(1000 * (time.perf_counter() - began))
    cpu = 1000 * (cpu_s(api) - before) / ROUNDS
    rows = len(re.findall("<tr>", answer.text)) - 1 if "<table" in answer.text else 0
    line = f"{len(answer.content) / 1000:>8.1f}{statistics.median(took):>8.1f}{percentile(took, 95):>8.1f}{cpu:>8.1f}"
    print(f"{path:<52}{rows:>5}{line}", flush=True)


async def watch(database: asyncpg.Connection, api: int, address: str, mailing: int) -> None:
    """Open tabs, each with its own session and connection, that poll at the interval of their page."""
    async with asyncio.TaskGroup() as opening:
        one_by_one = asyncio.Lock()
        opened = [opening.create_task(open_tab(address, mailing, one_by_one)) for _ in range(TABS)]
    tabs = [tab.result() for tab in opened]
    sending = asyncio.create_task(send(mailing))
    cpu, transactions, began = cpu_s(api), await committed(database), time.perf_counter()
    polls = [each for tab in await asyncio.gather(*(tab.follow() for tab in tabs)) for each in tab]
    seconds = time.perf_counter() - began
    cpu, transactions = cpu_s(api) - cpu, await committed(database) - transactions
    sending.cancel()
    print(f"\n{TABS} tabs follow a running mailing for {seconds:.0f} s, each every {tabs[0].every_s:g} s:")
    answers = Counter(polled.status for polled in polls)
    told = f"{answers[200]} changed, {answers[204]} unchanged, {answers[503]} refused"
    print(f"  {len(polls) / seconds:.0f} polls a second: {told}", end=", ")
    print(f"median {percentile([polled.ms for polled in polls], 50):.1f} ms", end=", ")
    print(f"p99 {percentile([polled.ms for polled in polls], 99):.1f} ms")
    print(f"  API process: {100 * cpu / seconds:.1f} % of one core, {1000 * cpu / len(polls):.2f} ms a poll")
    print(f"  PostgreSQL: {transactions / seconds:.1f} transactions a second, sending included")
    for tab in tabs:
        await tab.browser.aclose()


class Polled(NamedTuple):
    """204: unchanged; 503: too busy, the page polls again."""

    ms: float
    status: int


class Tab:
    """`next_path` is the path that the page polls next, as htmx does."""

    def __init__(self, browser: httpx.AsyncClient, page: str) -> None:
        self.browser = browser
        self.every_s = 0.0
        self.next_path = ""
        self._read(page)

    def _read(self, page: str) -> None:
        found = re.search(r'hx-get="([^"]+)"[^>]* data-every="([^"]+)"', page)
        assert found, page
        self.next_path, self.every_s = found[1], float(found[2])

    async def follow(self) -> list[Polled]:
        polls: list[Polled] = []
        await asyncio.sleep(self.every_s * (id(self) % 97) / 97)  # tabs do not open at the same moment
        until = time.perf_counter() + WATCHED_S
        while time.perf_counter() < until:
            began = time.perf_counter()
            answer = await self.browser.get(self.next_path, headers={"HX-Request": "true"})
            ms = 1000 * (time.perf_counter() - began)
            assert answer.status_code in (200, 204, 503), answer.status_code
            polls.append(Polled(ms, answer.status_code))
            if answer.status_code == 200:
                self._read(answer.text)
            await asyncio.sleep(max(0.0, self.every_s - ms / 1000))
        return polls


async def open_tab(address: str, mailing: int, one_by_one: asyncio.Lock) -> Tab:
    """Sign in and open a tab. Checking the password takes the server most of a second, by design."""
    browser = httpx.AsyncClient(base_url=address, trust_env=False, timeout=60)
    async with one_by_one:
        await sign_in(browser)
    return Tab(browser, (await browser.get(f"/admin/mailings/{mailing}")).text)


async def send(mailing: int) -> None:
    """Mark messages as sent like a worker, in two transactions per second."""
    database = await asyncpg.connect(os.environ["MAILING_DATABASE_URL"])
    while True:
        await database.execute(SEND, mailing, SENT_A_SECOND)
        await database.execute(SENT, mailing)
        await asyncio.sleep(1)


async def committed(database: asyncpg.Connection) -> int:
    await asyncio.sleep(1.1)  # a backend reports its statistics once per second
    query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    return int(await database.fetchval(query))


def percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["pages", "tabs"]))
