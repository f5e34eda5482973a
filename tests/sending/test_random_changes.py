"""Whatever people do while a mailing is planned: nobody is lost, and nobody is called who should not be."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from support.campaign import Campaign
from support.mailing_requests import open_for

pytestmark = pytest.mark.slow

ROUNDS = 25
OPEN, CLOSED = "UTC", "Etc/GMT-6"  # the window is open in the one now, and in the other in about 18 hours
TAGS = ("a", "b")
ANSWERED_S = 1.0  # from then on a change has its effect
CHANGES_LAST_S = 1.5


@dataclass
class Person:
    """A client as the API's answers left it. The instants are those of the answers."""

    id: int
    phone: str
    tag: str
    zone: str = OPEN
    gone_at: datetime | None = None
    closed_since: datetime | None = None

    def moves(self, zone: str, at: datetime) -> None:
        self.zone = zone
        self.closed_since = at if zone == CLOSED else None


class People:
    """Changes at random. Each client is changed once, so that the order of answers is the order of changes."""

    def __init__(self, campaign: Campaign, seed: int) -> None:
        self._campaign = campaign
        self._random = random.Random(seed)  # noqa: S311 - replayable, not a secret
        # With those kept for reads, no more than the API has connections. A request that waits too long is refused.
        self._at_once = asyncio.Semaphore(4)
        self._import_turn = asyncio.Lock()  # a key may have two imports in progress
        self._unchanged: list[Person] = []
        self.persons: dict[int, Person] = {}
        self.tags: list[str] = []
        """Of the mailing's filter; none means all."""

    async def settle_in(self, count: int) -> None:
        await self._campaign.db.run("DELETE FROM client")  # of an earlier round
        await self._campaign.db.run("DELETE FROM suppression")  # their phones come back
        for tag in TAGS:
            ids = await self._campaign.clients(count // len(TAGS), tag=tag)
            rows = await self._campaign.db.run("SELECT id, phone FROM client WHERE id = ANY(:ids)", ids=ids)
            self.persons |= {row.id: Person(row.id, row.phone, tag) for row in rows}
        self._unchanged = list(self.persons.values())
        await self._campaign.clients(1, tag=TAGS[0], timezone=CLOSED)  # the mailing goes on until its end
        self._random.shuffle(self._unchanged)

    async def change(self, mailing: int, count: int) -> None:
        """`count` changes within CHANGES_LAST_S, a few of them to the mailing itself."""
        kinds = [self._opt_out, self._delete, self._move, self._change_phone]
        changes: list[Callable[[], Awaitable[None]]] = [self._random.choice(kinds) for _ in range(count - 6)]
        changes += [self._import] * 3
        changes += [partial(self.edit, mailing, each) for each in self._edits()]
        async with asyncio.TaskGroup() as tasks:
            for change in changes:
                tasks.create_task(self._later(change))

    async def _later(self, change: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(self._random.random() * CHANGES_LAST_S)
        async with self._at_once:
            await change()

    def _edits(self) -> list[dict[str, Any]]:
        """Both windows are open at OPEN and closed at CLOSED."""
        self.tags = self._random.choice([[], ["a"], ["a", "b"]])
        return [
            {"filter": {"tags": self.tags, "operator_codes": []}},
            {"local_window": open_for(3)},
            {"ends_at": (datetime.now(UTC) + timedelta(days=2)).isoformat()},
        ]

    async def edit(self, mailing: int, edit: dict[str, Any]) -> None:
        answer = await self._ask("PATCH", f"/mailings/{mailing}/", json=edit)
        assert answer.status_code == 200, answer.text

    async def _opt_out(self) -> None:
        person = self._unchanged.pop()
        await self._patch(person, {"opted_out": True})
        person.gone_at = datetime.now(UTC)

    async def _delete(self) -> None:
        person = self._unchanged.pop()
        answer = await self._ask("DELETE", f"/clients/{person.id}/")
        assert answer.status_code in {204, 404}, "404: asked again, and deleted already"
        person.gone_at = datetime.now(UTC)

    async def _move(self) -> None:
        person = self._unchanged.pop()
        await self._patch(person, {"timezone": CLOSED})
        person.moves(CLOSED, datetime.now(UTC))

    async def _change_phone(self) -> None:
        person = self._unchanged.pop()
        person.phone = f"7999{person.id:07}"
        await self._patch(person, {"phone": person.phone})

    async def _patch(self, person: Person, change: dict[str, Any]) -> None:
        answer = await self._ask("PATCH", f"/clients/{person.id}/", json=change)
        assert answer.status_code == 200, answer.text

    async def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """Ask again after a 503: on a busy machine a transaction may stand still for longer than it may."""
        while True:
            answer = await self._campaign.api.request(method, path, **content)
            if answer.status_code != 503:
                return answer
            await asyncio.sleep(0.1)

    async def _import(self) -> None:
        """Import a file that moves twenty clients."""
        moved = [self._unchanged.pop() for _ in range(20)]
        file = "phone,timezone\n" + "".join(f"{person.phone},{CLOSED}\n" for person in moved)
        async with self._import_turn:
            answer = await self._ask("POST", "/clients/import", content=file, headers={"content-type": "text/csv"})
        assert answer.json()["updated"] == len(moved), answer.text
        for person in moved:
            person.moves(CLOSED, datetime.now(UTC))


async def test_clients_and_mailing_change_at_random_moments_of_a_plan(campaign: Campaign) -> None:
    async with campaign.working():
        for seed in range(2):
            await _play(campaign, clients=600, changes=100, seed=seed)


@pytest.mark.heavy
@pytest.mark.timeout(1800)  # 8 s a round on a quiet machine
@pytest.mark.parametrize("first", range(2, 202, ROUNDS))
async def test_clients_and_mailing_change_at_random_moments_of_two_hundred_plans(
    campaign: Campaign, first: int
) -> None:
    async with campaign.working():
        for seed in range(first, first + ROUNDS):
            await _play(campaign, clients=5_000, changes=300, seed=seed)


async def _play(campaign: Campaign, *, clients: int, changes: int, seed: int) -> None:
    """One mailing, changed while it is planned and sent, to its end. A worker must be running."""
    people = People(campaign, seed)
    await people.settle_in(clients)
    seen = len(await campaign.sandbox.ledger())
    mailing = await campaign.mailing(lasts_s=86400, local_window=open_for(2))
    await people.change(mailing, changes)
    await campaign.until(lambda: _nothing_due(campaign, mailing))
    await people.edit(mailing, {"ends_at": (datetime.now(UTC) + timedelta(seconds=1)).isoformat()})
    await campaign.finished(mailing)
    calls = (await campaign.sandbox.ledger())[seen:]
    _check_calls(people, calls, await _clients_of(campaign, mailing), seed)
    await _check_repeats(campaign, mailing, calls, seed)
    await _check_messages(people, campaign, mailing, seed)


async def _nothing_due(campaign: Campaign, mailing: int) -> bool:
    statement = """
        SELECT g.planned_revision = g.plan_revision AND c.sending = 0 AND NOT EXISTS (
            SELECT FROM message m
            WHERE m.mailing_id = g.id AND m.status = 'pending' AND (m.due_at <= now() OR m.closes_at <= now()))
        FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id WHERE g.id = :id"""
    return bool(await campaign.db.value(statement, id=mailing))


async def _clients_of(campaign: Campaign, mailing: int) -> dict[int, int]:
    """By the message's id."""
    rows = await campaign.db.run("SELECT id, client_id FROM message WHERE mailing_id = :id", id=mailing)
    return {row.id: row.client_id for row in rows}


def _check_calls(people: People, calls: list[dict[str, Any]], clients: dict[int, int], seed: int) -> None:
    assert calls, f"seed {seed}: nobody was called"
    for call in calls:
        assert clients[call["id"]] in people.persons, f"seed {seed}: called outside its hours"
        person, at = people.persons[clients[call["id"]]], datetime.fromisoformat(call["at"])
        latest = at - timedelta(seconds=ANSWERED_S)
        assert person.gone_at is None or person.gone_at > latest, f"seed {seed}: {person} was called at {at}"
        assert person.closed_since is None or person.closed_since > latest, f"seed {seed}: {person} was called at {at}"


async def _check_repeats(campaign: Campaign, mailing: int, calls: list[dict[str, Any]], seed: int) -> None:
    """A call that had no answer in time, on a busy machine, is repeated; no other is."""
    statement = """
        SELECT a.message_id, count(*) AS ambiguous FROM attempt a JOIN message m ON m.id = a.message_id
        WHERE m.mailing_id = :id AND a.outcome = 'ambiguous' GROUP BY 1"""
    ambiguous = {row.message_id: row.ambiguous for row in await campaign.db.run(statement, id=mailing)}
    wrong = [call for call in calls if call["repeats"] > ambiguous.get(call["id"], 0)]
    assert wrong == [], f"seed {seed}: called again without an ambiguous attempt"


async def _check_messages(people: People, campaign: Campaign, mailing: int, seed: int) -> None:
    rows = await campaign.db.run("SELECT client_id, status FROM message WHERE mailing_id = :id", id=mailing)
    status = {row.client_id: row.status for row in rows}
    assert not {"pending", "sending"} & set(status.values()), f"seed {seed}: unsent messages of a finished mailing"
    wanted = [p for p in people.persons.values() if p.gone_at is None and (not people.tags or p.tag in people.tags)]
    assert (lost := [p for p in wanted if p.id not in status]) == [], f"seed {seed}: {len(lost)} without a message"
    wrong = [(p, status[p.id]) for p in wanted if p.zone == OPEN and status[p.id] != "sent"]
    assert wrong == [], f"seed {seed}: open, selected, and not sent to"
