"""The statements of dispatch: batches of mailing 1 are claimed and recorded as accepted, one after another."""

from typing import Any

import uvloop

from bench.follow import done, ready, values
from mailing.database import engine as engine_
from mailing.database.engine import create_engine, transaction
from mailing.gateway.outcome import Answer, Outcome
from mailing.messages.claim import ClaimedMessage, claim
from mailing.messages.results import Called, CallResult, Transition, record
from mailing.messages.states import MessageStatus
from mailing.sending.recording import BATCH


async def work(given: dict[str, Any]) -> None:
    engine = create_engine(given["database"], application="bench", pool_size=1)
    sessions = engine_.sessions(engine)
    async with transaction(sessions):
        ready()
    while True:
        async with transaction(sessions) as session:
            claimed = await claim(session, 1, BATCH)
        if not claimed:
            break
        async with transaction(sessions) as session:
            await record(session, [_accepted(message) for message in claimed], mailing_id=1, revision=1)
    done()
    await engine.dispose()


def _accepted(message: ClaimedMessage) -> CallResult:
    step = Transition(
        status=MessageStatus.sent,
        counted_attempts=1,
        soft_refusals=0,
        maybe_accepted=False,
        due_at=message.claimed_at,
        closes_at=message.closes_at,
    )
    answer = Answer(Outcome.accepted, 200, 0)
    return CallResult(message, step, Called(answer, started_at=message.claimed_at, duration_ms=5))


if __name__ == "__main__":
    uvloop.run(work(values()))
