"""The start of a mailing: the job `plan_mailing` for mailing 1, as a worker runs it."""

from typing import Any

import uvloop

from bench.follow import done, ready, values
from mailing.database import engine as engine_
from mailing.database.connection_settings import WORKER_LIMIT_S
from mailing.database.engine import create_engine, transaction
from mailing.observability import log
from mailing.sending.plan import plan_mailing


async def plan(given: dict[str, Any]) -> None:
    engine = create_engine(given["database"], application="bench", pool_size=2, limit_s=WORKER_LIMIT_S)
    sessions = engine_.sessions(engine)
    async with transaction(sessions):
        ready()
    await plan_mailing(sessions, 1)
    done()
    await engine.dispose()


if __name__ == "__main__":
    log.configure(level="error", style="json", secrets=[])  # standard output belongs to the harness
    uvloop.run(plan(values()))
