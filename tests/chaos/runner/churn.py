"""An audience that does not hold still: people change its clients and its mailings while these are planned and sent."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from chaos.checker.deeds import CANCEL, DELETE, OPT_OUT, PAUSE, RESUME, Deed, Subject, edit, from_now
from chaos.runner.api_users import People
from chaos.runner.audience import CLOSED, KATHMANDU, MOVING_ZONES, OPEN, SOON, Part, phone_of

HANDS: Final = 6
LEAST_DEEDS: Final = 10  # of each hand, also where the plan is complete sooner
WORKS_S: Final = 20.0
EDITS: Final = 4
FILES: Final = 2
NEW_PHONES_FROM: Final = 5_000_000  # more than the phone it begins with
IMPORTED_FROM: Final = 8_000_000
IMPORTED: Final = 0.05  # new clients in a file, of those that it moves
HOURS: Final = timedelta(minutes=14), timedelta(hours=2)  # before and after now, in Kathmandu
HOW_OFTEN: Final = {"move": 40, "opt out": 20, "opt in": 5, "leave": 10, "new phone": 15, "other tag": 5, "old tag": 5}


class Crowd:
    """What is done is drawn from a seed; which of it meets which slice of a plan is up to the machine."""

    def __init__(self, people: People, part: Part, seed: int) -> None:
        self._people = people
        self._part = part
        self._seed = seed
        self._mailings: list[int] = []
        self._planned = asyncio.Event()
        self._until = 0.0

    async def stir(self, body: Callable[[], dict[str, Any]]) -> None:
        """Create the mailings and edit them; change clients until every plan is complete."""
        self._until = time.monotonic() + WORKS_S
        async with asyncio.TaskGroup() as beside:
            for hand in range(HANDS):
                beside.create_task(self._change_clients(hand))
            for nth in range(FILES):
                beside.create_task(self._move_by_file(nth))
            made = [beside.create_task(self._launch(nth, body)) for nth in range(self._part.mailings)]
            beside.create_task(self._wait_for_plans(made))

    async def _launch(self, nth: int, body: Callable[[], dict[str, Any]]) -> None:
        chance = self._chance_of("mailing", nth)
        await asyncio.sleep(chance.uniform(0, 0.3))
        mailing = await self._people.make_mailing(body)
        self._mailings.append(mailing)
        for deed in self._edits_of_one(nth) if self._part.mailings > 1 else self._edits(chance):
            await asyncio.sleep(chance.uniform(0, 0.6))
            await self._people.do(deed, Subject("mailing", mailing))

    def _edits(self, chance: random.Random) -> Iterator[Deed]:
        """Window, filter and end go to and fro, and come back in the end; it may be paused between, and cancelled."""
        yield from chance.sample(
            [
                PAUSE,
                edit(local_window=hours(moved=timedelta(hours=4))),
                edit(local_window=None),
                edit(filter=self._filter("916")),
                edit(filter=self._filter("917")),
                edit(ends_at=from_now(minutes=60)),
                edit(ends_at=from_now(minutes=90)),
            ],
            k=EDITS,
        )
        yield RESUME
        yield edit(local_window=hours(), filter=self._filter())
        if chance.random() < 0.2:
            yield CANCEL

    def _edits_of_one(self, nth: int) -> Sequence[Deed]:
        """Of many: left alone, its end moved on, paused for a moment, cancelled."""
        moved_on = edit(ends_at=from_now(minutes=0.3)), edit(ends_at=from_now(minutes=60))
        return ((), moved_on, (PAUSE, RESUME), (CANCEL,))[nth % 4]

    def _filter(self, *codes: str) -> dict[str, Any]:
        return {"tags": [self._part.name], "operator_codes": list(codes)}

    async def _wait_for_plans(self, made: Sequence[asyncio.Task[None]]) -> None:
        await asyncio.gather(*made)
        while True:
            if time.monotonic() > self._until or await self._people.is_planned(self._mailings):
                self._planned.set()
                return
            await asyncio.sleep(0.1)

    async def _change_clients(self, hand: int) -> None:
        """Each hand has clients of its own: what one client goes through has an order, but for files."""
        chance, clients, done = self._chance_of("hand", hand), self._part.ids[hand::HANDS], 0
        while clients and time.monotonic() < self._until and (done < LEAST_DEEDS or not self._planned.is_set()):
            client = chance.choice(clients)
            await self._people.do(self._deed(client, chance), Subject("client", client))
            done += 1

    def _deed(self, client: int, chance: random.Random) -> Deed:
        (kind,) = chance.choices(list(HOW_OFTEN), list(HOW_OFTEN.values()))
        match kind:
            case "leave":
                return DELETE
            case "opt out":
                return OPT_OUT
            case "opt in":
                return edit(opted_out=False)
            case "new phone":
                return edit(phone=str(phone_of(client) + NEW_PHONES_FROM))
            case "other tag" | "old tag":
                return edit(tag=self._part.name if kind == "old tag" else "elsewhere")
            case _:
                return edit(timezone=chance.choice([OPEN, SOON, CLOSED]))

    async def _move_by_file(self, nth: int) -> None:
        """Every seventh client moves, and there are some new ones."""
        chance, moved = self._chance_of("file", nth), self._part.ids[nth::7]
        await asyncio.sleep(chance.uniform(0, 1.5))
        zones = {client: chance.choice([OPEN, CLOSED]) for client in moved}
        new = [self._new_one(client, nth) for client in moved[: int(len(moved) * IMPORTED)]]
        await self._people.import_clients(zones, new)

    def _new_one(self, client: int, nth: int) -> tuple[str, str, str, str]:
        phone = phone_of(client) + IMPORTED_FROM + nth * 1_000_000
        return str(phone), "916", self._part.name, MOVING_ZONES[client % len(MOVING_ZONES)]

    def _chance_of(self, who: str, nth: int) -> random.Random:
        return random.Random(f"{self._seed}:{self._part.name}:{who}:{nth}")  # noqa: S311 - a replay, not a secret


def hours(moved: timedelta = timedelta(0)) -> dict[str, str]:
    """Open now in Kathmandu, in a minute in Kolkata, and not before tomorrow in Vladivostok."""
    there = datetime.now(UTC) + KATHMANDU + moved
    before, after = HOURS
    return {"start": f"{there - before:%H:%M}", "end": f"{there + after:%H:%M}"}
