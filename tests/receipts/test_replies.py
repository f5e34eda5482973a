"""Replies from phones: opt-outs, and everything else."""

import pytest

from mailing.receipts.opt_out_words import opt_out_word, opt_out_words
from receipts.conftest import ReceiptServer
from support.database import Database

PHONE = "79161234567"
SETTING = "STOP,СТОП,ОТПИСКА"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        *((text, "STOP") for text in ("STOP", "stop", " Stop!! ", "S T O P", "ST0P", "\u0405TOP", "stop\u200b")),
        ("ＳＴＯＰ", "STOP"),  # noqa: RUF001 - full-width letters
        *((text, "СТОП") for text in ("«стоп».", "CTOП")),
        ("Отписка", "ОТПИСКА"),
        *((text, None) for text in ("please stop", "nonstop", "", "!", "yes", "s.t.o.p" + "." * 10_000)),
    ],
)
def test_an_opt_out_word_is_recognized_however_it_is_typed(text: str, word: str | None) -> None:
    assert opt_out_word(text, opt_out_words(SETTING)) == word


async def test_stop_opts_the_client_out_and_cancels_what_is_unsent(receiver: ReceiptServer, db: Database) -> None:
    client_id = await db.add_client(phone=PHONE)
    await db.add_mailing_of(["pending"], first_client=client_id)
    assert (await receiver.reply("+7 (916) 123-45-67", " Stop! ")).status_code == 200
    assert await db.value("SELECT opted_out FROM client") is True
    assert await db.value("SELECT status FROM message") == "cancelled"
    entries = await db.run("SELECT actor, reason_code, reason_params FROM suppression")
    assert entries == [("reply", "replied", {"word": "STOP"})]
    events = await db.run("SELECT kind, actor, client_id, detail FROM event WHERE kind LIKE '%opted%'")
    assert events == [("client.opted_out", "reply", client_id, {"stopped": 1, "word": "STOP"})]
    assert receiver.counted("replies") == {"opt_out": 1}
    assert (await receiver.reply(PHONE, "stop")).status_code == 200
    assert await db.value("SELECT count(*) FROM event WHERE kind LIKE '%opted%'") == 1


async def test_stop_from_a_phone_without_a_client_lists_the_phone(receiver: ReceiptServer, db: Database) -> None:
    assert (await receiver.reply(PHONE, "СТОП")).status_code == 200
    assert await db.value("SELECT count(*) FROM suppression") == 1
    events = await db.run("SELECT kind, actor, detail FROM event")
    assert events == [("reply.opted_out", "reply", {"word": "СТОП"})]
    await db.add_client(phone=PHONE)
    assert await db.value("SELECT opted_out FROM client") is True


@pytest.mark.parametrize(("phone", "text"), [(PHONE, "thank you"), ("1234", "STOP"), ("+380501234567", "STOP")])
async def test_of_other_replies_nothing_is_kept(
    receiver: ReceiptServer, db: Database, phone: str, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    await db.add_client(phone=PHONE)
    assert (await receiver.reply(phone, text)).status_code == 200
    assert await db.value("SELECT opted_out FROM client") is False
    assert await db.value("SELECT count(*) FROM event") == 0
    assert receiver.counted("replies") == {"other": 1}
    told = "".join(capfd.readouterr())
    assert phone not in told
    assert text not in told
