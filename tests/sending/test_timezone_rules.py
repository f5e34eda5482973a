"""Time zone rules that change between a plan and the calls."""

import importlib.resources
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailing import timezones
from mailing.database.engine import transaction
from mailing.mailings.repository import planned_by_other_rules
from mailing.sending.plan import plan_mailing
from mailing.sending.timezone_rules import apply_rules
from mailing.timezones import rules_version, zone_named
from support.campaign import Campaign
from support.database import Database

MOVED, OTHER = "Europe/Moscow", "Europe/Minsk"  # UTC+3 both
PLACES = "SELECT client_id, xmin::text AS version FROM message ORDER BY client_id"


@pytest.fixture
def moscow_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Call its `change` to go on with tzdata in which Moscow is two hours further east."""
    changed = tmp_path / "tzdata_changed"
    with importlib.resources.as_file(importlib.resources.files("tzdata")) as package:
        shutil.copytree(package, changed)
    shutil.copy(changed / "zoneinfo" / "Asia" / "Yekaterinburg", changed / "zoneinfo" / "Europe" / "Moscow")
    monkeypatch.syspath_prepend(tmp_path)
    yield monkeypatch
    monkeypatch.undo()
    forget_rules()


def forget_rules() -> None:
    for cached in (timezones.rules_version, timezones.zone_named, timezones.zone_names):
        cached.cache_clear()


def restart_with_changed_rules(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(timezones, "_TZDATA", "tzdata_changed")
    forget_rules()


def wall(hours: float) -> str:
    """Return the wall time at UTC+3, `hours` from now."""
    return f"{datetime.now(UTC) + timedelta(hours=3 + hours):%H:%M}"


async def planned(campaign: Campaign, *, start: str, end: str) -> int:
    """Plan a mailing with these local hours, without a worker."""
    mailing_id = await campaign.mailing(local_window={"start": start, "end": end}, lasts_s=3 * 86_400)
    await plan_mailing(campaign.db.sessions, mailing_id)
    return mailing_id


async def versions(db: Database) -> dict[int, str]:
    return {row.client_id: row.version for row in await db.run(PLACES)}


async def test_windows_are_recomputed_where_the_new_rules_move_them_and_nowhere_else(
    campaign: Campaign, moscow_moves: pytest.MonkeyPatch
) -> None:
    (moved,) = await campaign.clients(1, timezone=MOVED)
    (other,) = await campaign.clients(1, timezone=OTHER)
    mailing_id = await planned(campaign, start=wall(4), end=wall(8))
    due = "SELECT due_at FROM message WHERE client_id = :id"
    before, versions_before = await campaign.db.value(due, id=moved), await versions(campaign.db)
    old_rules = rules_version()
    await apply_rules(campaign.db.sessions)
    assert await versions(campaign.db) == versions_before, "the same rules change nothing"
    restart_with_changed_rules(moscow_moves)
    await apply_rules(campaign.db.sessions)
    assert await campaign.db.value(due, id=moved) == before - timedelta(hours=2)
    assert (await versions(campaign.db))[other] == versions_before[other]
    assert await campaign.db.value("SELECT timezone_rules FROM mailing") == rules_version() != old_rules
    async with transaction(campaign.db.sessions) as session:
        assert await planned_by_other_rules(session, rules_version(), only_older=False) == []
        assert await planned_by_other_rules(session, "1999a-0", only_older=True) == []
        assert await planned_by_other_rules(session, "9999a-0", only_older=True) == [mailing_id]


async def test_a_message_whose_hours_no_longer_come_before_the_end_expires(
    campaign: Campaign, moscow_moves: pytest.MonkeyPatch
) -> None:
    await campaign.clients(1, timezone=MOVED)
    mailing_id = await campaign.mailing(local_window={"start": wall(-1), "end": wall(1)}, lasts_s=6 * 3600)
    await plan_mailing(campaign.db.sessions, mailing_id)
    await campaign.db.run("UPDATE message SET due_at = now() + interval '30 min', wait_reason = 'retry'")
    restart_with_changed_rules(moscow_moves)
    await apply_rules(campaign.db.sessions)
    [(status, reason)] = await campaign.db.run("SELECT status, reason_code FROM message")
    assert (status, reason) == ("expired", "no_window")


@pytest.mark.parametrize("recomputed", [True, False], ids=["recomputed", "checked before the call"])
async def test_after_a_restart_all_calls_are_inside_the_new_local_hours(
    campaign: Campaign, moscow_moves: pytest.MonkeyPatch, recomputed: bool
) -> None:
    """Without the recomputation, as beside a worker with the old rules, the check before the call decides alone."""
    moved, other = await campaign.clients(3, timezone=MOVED), await campaign.clients(3, timezone=OTHER)
    opens = wall(-1)
    mailing_id = await planned(campaign, start=opens, end=wall(1))
    restart_with_changed_rules(moscow_moves)
    if not recomputed:
        await campaign.db.run("UPDATE mailing SET timezone_rules = :rules", rules=rules_version())
    async with campaign.working():

        async def is_settled() -> bool:
            later = "SELECT count(*) FROM message WHERE status = 'pending' AND due_at > now()"
            return (await campaign.counts(mailing_id)).get("sent") == 3 and await campaign.db.value(later) == 3

        await campaign.until(is_settled)
    sent = await campaign.db.run("SELECT client_id FROM message WHERE status = 'sent' ORDER BY client_id")
    assert [row.client_id for row in sent] == other
    assert len(await campaign.sandbox.ledger()) == 3
    waiting = await campaign.db.run("SELECT client_id, due_at FROM message WHERE status = 'pending'")
    assert {row.client_id for row in waiting} == set(moved)
    assert {f"{row.due_at.astimezone(zone_named(MOVED)):%H:%M}" for row in waiting} == {opens}


def test_the_version_of_the_rules_is_that_of_their_files(moscow_moves: pytest.MonkeyPatch) -> None:
    before = rules_version()
    restart_with_changed_rules(moscow_moves)
    assert before.split("-")[0] == rules_version().split("-")[0] == timezones.iana_version()
    assert before != rules_version()
