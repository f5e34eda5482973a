"""What strangers, copies and outages get from the addresses of receipts."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence

import pytest

from mailing.database.read_pool import ReadPool
from mailing.errors import Unavailable
from mailing.gateway.providers.receipt import Receipt, ReceiptState
from mailing.observability.counters import WorkerCounters
from mailing.receipts.address import account_receipts_path, receipt_path, replies_path, signing_secret
from mailing.receipts.inbox import MAX_WAITING, Inbox
from mailing.settings import Settings
from receipts.conftest import FORMER, NAME, ReceiptServer, receipt_server
from support.database import Database
from support.proxy import Proxy, proxy

DELIVERED = 3


@pytest.fixture
async def ids(db: Database) -> Sequence[int]:
    return await db.add_messages(await db.add_mailing(), ["sent"] * 3)


@pytest.fixture
async def between(settings: Settings) -> AsyncIterator[Proxy]:
    async with proxy(settings) as (between, _):
        yield between


async def test_forged_and_walked_addresses_are_refused_without_a_word(
    receiver: ReceiptServer, db: Database, ids: Sequence[int], capfd: pytest.CaptureFixture[str]
) -> None:
    real = receiver.path(ids[0])
    mac = real.partition(".")[2]
    forged = [
        receipt_path(bytes(32), NAME, ids[0]),
        receipt_path(receiver.key, "another", ids[0]),
        *(f"/receipts/{other}.{mac}" for other in ids[1:]),
        f"/receipts/{ids[0]}.{mac[:-1]}{'A' if mac[-1] != 'A' else 'B'}",
        f"/receipts/{ids[0]}",
        f"/receipts/0{ids[0]}.{mac}",
        f"{real}/",
        account_receipts_path(receiver.key, NAME),  # not with this provider
        replies_path(receiver.key, NAME).replace("/replies", "/receipts"),
        real.replace("/receipts", "/replies"),
        "/receipts/",
        "/replies/",
    ]
    for path in forged:
        for method in ("GET", "POST"):
            answer = await receiver.http.request(
                method, path, params={"state": 3} if method == "GET" else None, json=[]
            )
            assert (answer.status_code, answer.content) == (403, b""), path
    assert await db.value("SELECT count(*) FROM receipt") == 0
    assert receiver.counted()["forged"] + receiver.counted("replies")["forged"] == 2 * len(forged)
    told = "".join(capfd.readouterr())
    assert mac not in told
    assert "/receipts/" not in told


async def test_the_address_of_one_message_takes_no_receipt_of_another(
    receiver: ReceiptServer, db: Database, ids: Sequence[int]
) -> None:
    items = [{"state": DELIVERED, "id": message_id} for message_id in ids]
    assert (await receiver.http.post(receiver.path(ids[0]), json=items)).status_code == 200
    assert await db.run("SELECT message_id FROM receipt") == [(ids[0],)]
    assert receiver.counted() == {"forged": 2, "delivered": 1}


async def test_a_receipt_that_the_provider_has_not_signed_is_forged(
    receiver: ReceiptServer, db: Database, ids: Sequence[int]
) -> None:
    assert (await receiver.receipt(ids[0], DELIVERED, signed=False)).status_code == 403
    assert receiver.counted() == {"forged": 1}
    assert await db.value("SELECT count(*) FROM receipt") == 0


async def test_what_the_provider_before_a_switch_reports_still_counts(
    receiver: ReceiptServer, db: Database, ids: Sequence[int]
) -> None:
    await db.add_client(phone="79161234567")
    path = receipt_path(receiver.key, FORMER, ids[0])
    assert (await receiver.http.post(path, json=[{"state": DELIVERED}])).status_code == 200
    assert await db.run("SELECT message_id, state FROM receipt") == [(ids[0], DELIVERED)]
    stop = {"phone": "79161234567", "text": "STOP"}
    assert (await receiver.http.post(replies_path(receiver.key, FORMER), json=stop)).status_code == 200
    assert await db.value("SELECT opted_out FROM client WHERE phone = '79161234567'") is True


async def test_what_smsc_ru_signs_counts_after_a_switch_too(
    receiver: ReceiptServer, db: Database, ids: Sequence[int]
) -> None:
    """Its receipts come to one address, signed with a word that no setting holds."""
    reference = f"0123456789-{ids[0]}-0"
    path = account_receipts_path(receiver.key, "smsc")
    for secret, status in (("its successor's", 403), (signing_secret(receiver.key, "smsc"), 200)):
        signed = hashlib.md5(f"{reference}:79161234567:1:{secret}".encode(), usedforsecurity=False).hexdigest()
        form = {"id": reference, "phone": "79161234567", "status": "1", "md5": signed}
        assert (await receiver.http.post(path, data=form)).status_code == status
    assert await db.run("SELECT message_id, state FROM receipt") == [(ids[0], DELIVERED)]


async def test_a_receipt_may_come_by_get(receiver: ReceiptServer, db: Database, ids: Sequence[int]) -> None:
    assert (await receiver.http.get(receiver.path(ids[0]), params={"state": 3})).status_code == 200
    assert await db.value("SELECT state FROM receipt") == DELIVERED


@pytest.mark.parametrize("body", [b"", b"{", b"[]]", b'[{"state": 9}]', b"\xff", b"[" * 100_000, b" " * 300_000])
async def test_a_malformed_receipt_is_refused_and_counted(
    receiver: ReceiptServer, db: Database, ids: Sequence[int], body: bytes
) -> None:
    assert (await receiver.http.post(receiver.path(ids[0]), content=body)).status_code == 400
    assert receiver.counted() == {"malformed": 1}
    assert await db.value("SELECT count(*) FROM receipt") == 0


async def test_only_get_and_post_are_taken(receiver: ReceiptServer, ids: Sequence[int]) -> None:
    for method in ("HEAD", "PUT", "DELETE", "OPTIONS"):
        answer = await receiver.http.request(method, receiver.path(ids[0]))
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


async def test_without_the_database_the_provider_is_asked_to_repeat(
    between: Proxy, db: Database, ids: Sequence[int]
) -> None:
    async with receipt_server(between.url) as receiver:
        await between.stop()
        answer = await receiver.receipt(ids[0], DELIVERED)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        await between.start()
        assert (await receiver.receipt(ids[0], DELIVERED)).status_code == 200
    assert await db.value("SELECT state FROM receipt") == DELIVERED


async def test_a_commit_whose_answer_is_lost_is_repeated_and_counts_once(
    between: Proxy, db: Database, ids: Sequence[int]
) -> None:
    async with receipt_server(between.url) as receiver:
        assert (await receiver.receipt(ids[0], DELIVERED)).status_code == 200
        between.cut_after = (b"__asyncpg_stmt",)  # as asyncpg names what it executes
        assert (await receiver.receipt(ids[1], DELIVERED)).status_code == 200
        assert not between.cut_after
    assert await db.value("SELECT delivered FROM receipt_counts") == 2


async def test_a_full_buffer_refuses_and_recovers(db: Database, ids: Sequence[int]) -> None:
    pool = ReadPool(db.engine)
    inbox = Inbox(pool, WorkerCounters())  # nobody writes yet
    new = [Receipt(ids[0], ReceiptState.delivered, None, None)]
    waiting = [inbox.put(new * 500) for _ in range(MAX_WAITING // 500)]
    with pytest.raises(Unavailable):
        await inbox.put(new)
    writing = asyncio.create_task(inbox.run())
    await asyncio.gather(*waiting)
    await inbox.put(new)
    assert await db.value("SELECT delivered FROM receipt_counts") == 1
    late = inbox.put(new)
    writing.cancel()
    with pytest.raises(Unavailable):
        await late
    await pool.aclose()
