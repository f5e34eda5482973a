"""What people do in a run: clients and mailings made, and changed while they are sent. Every change is remembered."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import httpx

from chaos.checker.deeds import CANCEL, DELETE, OPT_OUT, PAUSE, RESUME, Subject, edit
from chaos.checker.facts import Action
from chaos.gateway.process import MIX
from chaos.runner.api_users import People
from chaos.runner.audience import KOLKATA, SHARES, parts, rows
from chaos.runner.churn import Crowd, hours
from chaos.runner.environment import Site
from chaos.runner.timeline import Event, Kind, Trial

MARK: Final = "Zugspitze"  # in every text, and so in nothing but calls and rows
# While an end is moved on: calls that surely fail, too few for the breaker, and slow enough that some are under way.
FAILING: Final = {"status:408": 0.3, "throttle_429": 0.1}
FAILING_LATENCY_S: Final = 1.5
FAILING_S: Final = 6.0
FIRST_END_S: Final = 6.0
DEEDS: Final = {
    Kind.pause: PAUSE,
    Kind.resume: RESUME,
    Kind.cancel: CANCEL,
    Kind.delete: DELETE,
    Kind.opt_out: OPT_OUT,
    Kind.delete_client: DELETE,
    Kind.move_client: edit(timezone="Asia/Tokyo"),
}


class Campaign:
    def __init__(self, here: Site, api: httpx.AsyncClient, trial: Trial, seed: int) -> None:
        self.mailings: dict[str, int] = {}
        self._here = here
        self._scale = trial
        self._seed = seed
        self._parts = parts(trial)
        self._chance = random.Random(seed)  # noqa: S311 - a replay, not a secret
        self._people = People(here, api, at_once=trial.people)
        self._edits = 0
        self._left_out = False
        self._ends_at = datetime.now(UTC) + timedelta(hours=2)

    @property
    def actions(self) -> list[Action]:
        return self._people.actions

    async def prepare(self) -> None:
        """Insert the clients in the order of their ids."""
        columns = ["phone", "operator_code", "tag", "timezone"]
        async with self._here.database.connection() as connection:
            await connection.copy_records_to_table("client", columns=columns, records=list(rows(self._scale)))
            await connection.execute("ANALYZE client")

    async def launch(self) -> None:
        for name in ("long", *SHARES):
            self.mailings[name] = await self._people.make_mailing(partial(self._body, name))

    async def act(self, event: Event) -> None:
        match event.kind:
            case Kind.opt_out | Kind.delete_client | Kind.move_client:
                client = self._chance.choice(self._parts[event.target].ids)
                await self._people.do(DEEDS[event.kind], Subject("client", client))
            case Kind.edit:
                await self._edit()
            case Kind.churn | Kind.swarm:
                await self._stir(event.target)
            case Kind.extend:
                await self._extend(event.target)
            case _:
                await self._people.do(DEEDS[event.kind], Subject("mailing", self.mailings[event.target]))

    async def plan_anew(self) -> None:
        """Plan the whole audience of the long mailing again, by moving its end on a second."""
        self._edits += 1
        ends_at = self._ends_at + timedelta(seconds=self._edits)
        await self._people.do(edit(ends_at=ends_at.isoformat()), Subject("mailing", self.mailings["long"]))

    async def _edit(self) -> None:
        """Change the text; leave out half of the audience and take it back in turn."""
        self._edits += 1
        self._left_out = not self._left_out
        half = {"tags": ["edited"], "operator_codes": ["916"] if self._left_out else []}
        deed = edit(text=f"{MARK} edited {self._edits}", filter=half)
        await self._people.do(deed, Subject("mailing", self.mailings["edited"]))

    async def _stir(self, name: str) -> None:
        """Many mailings to a few clients, or one to many: clients change, and the mailings, while they are planned."""
        part = self._parts[name]
        await Crowd(self._people, part, self._seed).stir(partial(self._body, name))

    async def _extend(self, name: str) -> None:
        """Its end, close by, is moved on while the gateway fails; what fails then has time to be tried again."""
        await self._here.witness.behave(mix=FAILING, latency_s=FAILING_LATENCY_S)
        mailing = await self._people.make_mailing(partial(self._body, name))
        await self._people.see_sent(mailing, within_s=FIRST_END_S)
        await self._people.do(edit(ends_at=self._ends_at.isoformat()), Subject("mailing", mailing))
        await asyncio.sleep(FAILING_S)
        await self._here.witness.behave(mix=MIX, latency_s=self._scale.latency_s)

    def _body(self, name: str) -> dict[str, Any]:
        now = datetime.now(UTC)
        return {
            "text": f"{MARK} {name}",
            "starts_at": (now - timedelta(seconds=1)).isoformat(),
            "ends_at": self._end(name, now).isoformat(),
            "filter": {"tags": [name]},
            "local_window": self._hours(name, now),
        }

    def _end(self, name: str, now: datetime) -> datetime:
        if name.startswith("extended"):
            return now + timedelta(seconds=FIRST_END_S)
        early = {"ending": self._scale.end_s, "windowed": 4 * self._scale.end_s}
        return now + timedelta(seconds=early[name]) if name in early else self._ends_at

    def _hours(self, name: str, now: datetime) -> dict[str, str] | None:
        if name == "windowed":
            there = now + KOLKATA
            start, end = there - timedelta(minutes=27), there + timedelta(minutes=19)
            return {"start": f"{start:%H:%M}", "end": f"{end:%H:%M}"}
        return hours() if name.startswith("churn") else None
