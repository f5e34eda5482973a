"""No call without a release of exactly the words that it carries, whatever editors and senders do at once."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from mailing.database.engine import transaction
from mailing.errors import Conflict, Forbidden
from mailing.mailings import actions, editing
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.repository import find_pending_work
from mailing.mailings.schemas import MailingIn
from mailing.mailings.states import MailingStatus
from mailing.sending.plan import plan_mailing
from mailing.web.validation import check
from support.campaign import Campaign
from support.mailing_requests import body, in_hours

EDITOR, SENDER = "user 1 (editor)", "user 2 (sender)"
MAILINGS = 6
ROUNDS = 40

# Every claim took words that a release of its mailing covers, and clients that were selected by one.
_UNRELEASED = """
    SELECT m.id FROM message m WHERE m.claim_no > 0 AND NOT EXISTS (
        SELECT FROM mailing_release r WHERE r.mailing_id = m.mailing_id AND r.text_revision = m.text_revision)
    UNION ALL
    SELECT m.id FROM message m WHERE NOT EXISTS (SELECT FROM mailing_release r WHERE r.mailing_id = m.mailing_id)"""


@dataclass
class Office:
    """An editor and a sender at the same mailings. `seen`: the words that were released, as the sender read them."""

    campaign: Campaign
    rng: random.Random
    mailings: list[int] = field(default_factory=list)
    seen: dict[int, set[str]] = field(default_factory=dict)
    written: int = 0

    def words(self) -> str:
        self.written += 1
        return f"words {self.written}"

    async def draft(self) -> None:
        async with transaction(self.campaign.db.sessions) as session:
            data = check(body(text=self.words(), starts_at=in_hours(-1)), MailingIn)
            mailing = await editing.create_draft(session, data, by=EDITOR)
        self.mailings.append(mailing.id)
        self.seen[mailing.id] = set()

    async def editor(self) -> None:
        while self.rng.random() > 1 / ROUNDS:
            change = {"text": self.words()} if self.rng.random() < 0.7 else {"ends_at": later(self.written)}
            with suppress(Conflict, Forbidden):  # it has begun, or is over
                await self.campaign.db.commit(
                    editing.edit_unreleased, self.rng.choice(self.mailings), change, by=EDITOR
                )

    async def sender(self) -> None:
        while self.rng.random() > 1 / ROUNDS:
            mailing_id = self.rng.choice(self.mailings)
            with suppress(Conflict):  # changed meanwhile, or over
                await self.rng.choice([self.release, self.release, self.reword, self.pause_and_resume])(mailing_id)

    async def release(self, mailing_id: int) -> None:
        """Of what was read in a transaction before."""
        async with transaction(self.campaign.db.sessions) as session:
            read = await MailingRepository(session=session).get_visible(mailing_id)
        await self.campaign.db.commit(actions.release, mailing_id, revision=read.content_revision, by=SENDER)
        if read.status == MailingStatus.draft:
            self.seen[mailing_id].add(read.text)

    async def reword(self, mailing_id: int) -> None:
        """Of a draft it is no release."""
        words = self.words()
        edited = await self.campaign.db.commit(editing.edit, mailing_id, {"text": words}, by=SENDER)
        if edited.status is not MailingStatus.draft:
            self.seen[mailing_id].add(words)

    async def pause_and_resume(self, mailing_id: int) -> None:
        for action in (actions.pause, actions.resume):
            await self.campaign.db.commit(action, mailing_id, by=SENDER)

    async def all_released(self) -> None:
        for mailing_id in self.mailings:
            with suppress(Conflict):  # it is over
                await self.release(mailing_id)


def later(n: int) -> datetime:
    return check(body(ends_at=in_hours(24 + n)), MailingIn).ends_at


async def test_no_call_carries_words_that_were_not_released(campaign: Campaign) -> None:
    await campaign.clients(60)
    office = Office(campaign, random.Random(14))  # noqa: S311 - to be repeated
    for _ in range(MAILINGS):
        await office.draft()
    async with campaign.working():
        await asyncio.gather(office.editor(), office.editor(), office.sender(), office.sender())
        await office.all_released()
        for mailing_id in office.mailings:
            assert (await campaign.finished(mailing_id))["sent"] == 60
    texts = {item["id"]: item["text"] for item in await campaign.sandbox.ledger()}
    mailing_of = dict(tuple(row) for row in await campaign.db.run("SELECT id, mailing_id FROM message"))
    assert [id_ for id_, text in texts.items() if text not in office.seen[mailing_of[id_]]] == []
    assert await campaign.db.run(_UNRELEASED) == []
    assert await campaign.db.run("SELECT revision FROM mailing_release WHERE released_by = :by", by=EDITOR) == []


async def test_neither_the_sweep_nor_a_job_of_former_times_begins_a_draft(campaign: Campaign) -> None:
    """It was scheduled, and the job for its start was enqueued; an editor changed it before that job ran."""
    await campaign.clients(3)
    mailing_id = await campaign.mailing(starts_in_s=600)
    await campaign.db.commit(editing.edit_unreleased, mailing_id, {"text": "unread"}, by=EDITOR)
    past = "UPDATE mailing SET starts_at = now() - interval '1 h' RETURNING id"
    await campaign.db.run(past)
    await campaign.db.run("UPDATE procrastinate_jobs SET scheduled_at = now()")
    await plan_mailing(campaign.db.sessions, mailing_id)
    assert await campaign.db.commit(find_pending_work, after=0, count=100) == []
    async with campaign.working():
        other = await campaign.mailing()
        await campaign.finished(other)  # the jobs before it have run
        assert await campaign.counts(mailing_id) == {}
        await campaign.db.commit(actions.release, mailing_id, revision=2, by=SENDER)
        assert await campaign.finished(mailing_id) == {"planned": 3, "sent": 3}
    assert {item["text"] for item in await campaign.sandbox.ledger()} == {"hello", "unread"}
