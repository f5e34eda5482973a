"""The statements of dispatch: batches of mailing 1 are claimed and recorded as accepted, one after another."""

from typing import Any

import uvloop

from bench.follow import done, ready, values
from bench.growth.work import Sender
from mailing.database import engine as engine_
from mailing.database.engine import create_engine, transaction


async def work(given: dict[str, Any]) -> None:
    engine = create_engine(given["database"], application="bench", pool_size=1)
    sessions = engine_.sessions(engine)
    async with transaction(sessions):
        ready()
    await Sender(sessions, 1).send(given["count"])
    done()
    await engine.dispose()


if __name__ == "__main__":
    uvloop.run(work(values()))
