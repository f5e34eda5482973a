"""The product's own statements, called as the product calls them."""

from dataclasses import dataclass

from sqlalchemy import text

from mailing.database.engine import Sessions, transaction
from mailing.gateway.outcome import Answer, Outcome
from mailing.messages.claim import ClaimedMessage, claim
from mailing.messages.results import Called, CallResult, record
from mailing.sending.recording import BATCH
from mailing.sending.retry_policy import accepted

ZONES = ("Europe/Kaliningrad", "Europe/Moscow", "Asia/Yekaterinburg", "Asia/Novosibirsk", "Asia/Vladivostok")
SMALL = "small"  # the tag of the first clients, the recipients of the small mailing
SMALL_CLIENTS = 10_000
TENTH = ("tag0", "tag1", "tag2", "tag3", "tag4")  # one of fifty, each for a fiftieth of the other clients

_CLIENTS = text("""
    INSERT INTO client (phone, operator_code, tag, timezone)
    SELECT '7' || lpad((9000000000 + n * 7919 % 999999937)::text, 10, '0'), (900 + n % 100)::text,
        CASE WHEN n <= :small THEN :tag ELSE 'tag' || n % 50 END, (CAST(:zones AS text[]))[n % 5 + 1]
    FROM generate_series(CAST(:first AS bigint), :last) n
""")
_MAILING = text("""
    INSERT INTO mailing (text, tags, starts_at, ends_at, status, released_revision, released_at, released_by)
    VALUES ('Hello', CAST(:tags AS text[]), now(), now() + interval '2 days', 'scheduled', 1, now(), 'bench')
    RETURNING id
""")


@dataclass(frozen=True)
class Sender:
    """Claim and record, with a gateway that accepts every message at once."""

    sessions: Sessions
    mailing_id: int

    async def send(self, count: int, *, batch: int = BATCH) -> int:
        sent = 0
        while sent < count:
            moved = await self._batch(min(batch, count - sent))
            if not moved:
                break
            sent += moved
        return sent

    async def _batch(self, count: int) -> int:
        async with transaction(self.sessions) as session:
            claimed = await claim(session, self.mailing_id, count)
        if not claimed:
            return 0
        async with transaction(self.sessions) as session:
            return (
                await record(session, [_sent(each) for each in claimed], mailing_id=self.mailing_id, revision=1)
            ).moved


def _sent(message: ClaimedMessage) -> CallResult:
    answer = Answer(Outcome.accepted, 200, 0)
    return CallResult(message, accepted(message), Called(answer, started_at=message.claimed_at, duration_ms=5))


async def add_clients(sessions: Sessions, count: int) -> None:
    step = 100_000
    for first in range(1, count + 1, step):
        values = {"first": first, "last": min(first + step - 1, count), "small": SMALL_CLIENTS, "tag": SMALL}
        async with transaction(sessions) as session:
            await session.execute(_CLIENTS, values | {"zones": list(ZONES)})


async def add_mailing(sessions: Sessions, *, tags: tuple[str, ...] = ()) -> int:
    async with transaction(sessions) as session:
        mailing_id: int = (await session.execute(_MAILING, {"tags": list(tags)})).scalar_one()
    return mailing_id
