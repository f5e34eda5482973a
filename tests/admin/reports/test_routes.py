"""The days that were reported, and the report of a day, as a browser gets them."""

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from msgspec.structs import replace
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect

from mailing.access.roles import Role
from mailing.settings import Settings
from support.admin import Browser, browser_at
from support.answers import words
from support.api import running_app
from support.browser import CHROMIUM, WITHOUT, signed_in_page, watched
from support.database import Database
from support.users import made, signed_in

EVIL = "<script>alert(1)</script>"
ADD = """
    INSERT INTO report (day, zone, starts, ends, due_at, attempts,
        sent_at, permanently_failed, last_error, delivered_to)
    SELECT day, 'UTC', day, day + interval '1 day', now() + make_interval(hours => :due_in_h), :attempts,
        CASE WHEN :sent THEN now() END, :refused, CAST(:error AS text), CAST(:to AS text[])
    FROM (SELECT current_date - CAST(:ago AS int) AS day) reported
"""


async def add_report(
    db: Database,
    ago: int,
    *,
    due_in_h: int = 1,
    attempts: int = 1,
    sent: bool = False,
    refused: bool = False,
    error: str | None = None,
    to: list[str] | None = None,
) -> date:
    values = {"due_in_h": due_in_h, "attempts": attempts, "sent": sent, "refused": refused, "error": error}
    await db.run(ADD, ago=ago, to=to or [], **values)
    return datetime.now(UTC).date() - timedelta(days=ago)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, report_to="ops@example.org, boss@example.org", report_timezone="UTC")


async def test_the_list_says_of_each_day_what_became_of_it(db: Database, viewer: Browser) -> None:
    await add_report(db, 1, attempts=0)
    await add_report(db, 2, error="boss@example.org: 451 greylisted", to=["ops@example.org"])
    await add_report(db, 3, refused=True, error="550 no such user")
    await add_report(db, 4, sent=True, error="boss@example.org: 550 gone", to=["ops@example.org"])
    await add_report(db, 5, due_in_h=-1)
    await add_report(db, 40, error="connection refused")
    shown = words(await viewer.get("/admin/reports"))
    rows = shown.partition("Remarks")[2].replace("\N{EN DASH}", "-")
    for told in (
        r"not sent yet - - Due on \d",
        r"not sent yet - o\*\*\*@example.org Next attempt on .*?, then further ones until .*?\. ",
        r"The last attempt failed: b\*\*\*@example.org: 451 greylisted",
        r"refused - - Next attempt on .*? The last attempt failed: 550 no such user",
        r"sent \d.*? UTC o\*\*\*@example.org Not delivered to b\*\*\*@example.org: 550 gone",
        r"not sent yet - - Next attempt within two minutes",
        r"never sent - - It was retried for 31 days, .*? The last attempt failed: connection refused",
    ):
        found = re.search(told, rows)
        assert found, (told, rows)
        rows = rows[found.end() :]
    assert "ops@example.org" not in shown


async def test_before_the_first_report_the_list_says_when_it_is_due(viewer: Browser) -> None:
    shown = words(await viewer.get("/admin/reports"))
    assert "The next is due on" in shown
    assert "No report has been due yet." in shown


async def test_times_are_in_the_reports_zone_whatever_the_viewers_is(db: Database, viewer: Browser) -> None:
    day = await add_report(db, 1, sent=True, to=["ops@example.org"])
    viewer.cookies.set("mailing_zone", "Asia/Vladivostok")
    for path in ("/admin/reports", f"/admin/reports/{day}"):
        shown = words(await viewer.get(path)).partition("Times are in")[0]
        assert " UTC" in shown
        assert "UTC+" not in shown


async def test_the_start_page_leads_to_the_reports(db: Database, viewer: Browser) -> None:
    await add_report(db, 1, error="ops@example.org: 451 greylisted")
    shown = (await viewer.get("/admin/")).text
    assert '<dt><a href="/admin/reports">Daily report</a></dt>' in shown
    assert "o***@example.org: 451 greylisted" in shown
    assert "ops@example.org" not in shown


async def test_a_day_is_shown_as_its_mail_in_the_language_of_the_viewer(db: Database, viewer: Browser) -> None:
    await db.add_mailing_of(["sent", "failed"], text="Autumn sale")
    today = datetime.now(UTC).date()
    shown = await viewer.get(f"/admin/reports/{today}")
    assert f'<iframe class="mail" src="/admin/reports/{today}/mail" sandbox title=' in shown.text
    assert "frame-src 'self'" in shown.headers["content-security-policy"]
    mail = words(await viewer.get(f"/admin/reports/{today}/mail"))
    assert "not over yet" in mail
    assert "Autumn sale" in mail
    viewer.cookies.set("mailing_language", "ru")
    assert '<html lang="ru"' in (await viewer.get(f"/admin/reports/{today}/mail")).text
    table = await viewer.get(f"/admin/reports/{today}/table")
    assert table.headers["content-disposition"] == f'attachment; filename="mailings-{today}.csv"'
    assert "Autumn sale,running,1,1" in table.text


async def test_the_mail_can_do_nothing_in_its_frame(db: Database, viewer: Browser) -> None:
    await db.add_mailing_of(["failed"], text=EVIL)
    change = """UPDATE message SET reason_code = 'not_claimable',
            reason_params = jsonb_build_object('error', CAST(:evil AS text))"""
    await db.run(change, evil=EVIL)
    mail = await viewer.get(f"/admin/reports/{datetime.now(UTC).date()}/mail")
    policy = {part.strip() for part in mail.headers["content-security-policy"].split(";")}
    assert {"default-src 'none'", "sandbox", "frame-ancestors 'self'", "form-action 'none'"} <= policy
    assert not any(part.startswith("script-src") for part in policy)
    assert mail.text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    assert EVIL not in mail.text


@pytest.mark.parametrize("part", ["", "/mail", "/table"])
@pytest.mark.parametrize("day", ["9999-12-31", "1969-12-31", "0001-01-01", "2026-13-01", "yesterday"])
async def test_a_day_that_is_none_or_has_not_begun_is_not_found(viewer: Browser, day: str, part: str) -> None:
    assert (await viewer.get(f"/admin/reports/{day}{part}")).status_code == 404


async def test_without_recipients_the_list_says_so(db: Database, settings: Settings) -> None:
    await add_report(db, 1)
    async with running_app(replace(settings, report_to=None)) as app, browser_at(app) as browser:
        browser.cookies.set("mailing_session", await signed_in(db, await made(db, role=Role.VIEWER)))
        shown = words(await browser.get("/admin/reports"))
    assert "The report has no recipients: set MAILING_REPORT_TO." in shown
    assert "It has no recipients: MAILING_REPORT_TO is not set." in shown


@pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)
async def test_a_browser_shows_the_mail_inside_the_page_and_runs_nothing_of_it(
    address: str, db: Database, chromium: Chromium
) -> None:
    page = await signed_in_page(chromium, address, db, Role.VIEWER)
    await db.add_mailing_of(["sent"], text=f"Autumn {EVIL}")
    seen = watched(page)
    await page.goto(f"{address}/admin/reports")
    await page.get_by_role("link", name="Today so far").click()
    mail = page.frame_locator("iframe.mail")
    await expect(mail.get_by_text(f"Autumn {EVIL}")).to_be_visible()
    assert (seen.complaints, seen.blocked) == ([], [])
