"""Kannel itself takes what the client sends, and the provider's module reads what it answers and reports."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from mailing.gateway.checks import check_credentials
from mailing.gateway.client import GatewayClient, Origin
from mailing.gateway.outcome import Answer, Outcome
from mailing.gateway.providers.kannel import Kannel as Provider
from mailing.gateway.providers.receipt import ReceiptState
from mailing.reasons.codes import ReasonCode
from mailing.settings import Settings
from support.kannel import MISSING, NUMBER, Kannel, is_installed, kannel_in
from support.receiver import Receiver

pytestmark = pytest.mark.skipif(not is_installed(), reason=MISSING)

SETTINGS = Settings(gateway_user="mailing", gateway_token=Kannel.password, sender="Shop")
PROVIDER = Provider(SETTINGS)
LONG = "Наш магазин переехал. " * 5
LONGEST = "Ж" * 1600


@pytest.fixture
async def kannel(tmp_path: Path, receiver: Receiver) -> AsyncIterator[Kannel]:
    async with kannel_in(tmp_path) as kannel:
        await kannel.start(replies_to=f"{receiver.url}/replies/kannel.mac{PROVIDER.reply_query}")
        yield kannel


def client_of(kannel: Kannel, receiver: Receiver, provider: Provider = PROVIDER) -> GatewayClient:
    origin = Origin("Shop", receipt_url=lambda message_id: f"{receiver.url}/receipts/{message_id}.mac")
    return GatewayClient(provider, base_url=kannel.url, timeout_s=20, concurrency=8, origin=origin)


async def send(client: GatewayClient, message_id: int, text: str) -> Answer:
    phone = f"7916{message_id:07}"
    answer = await client.send(message_id, phone=phone, text=text, time_left_s=3600)
    assert answer is not None
    return answer


async def test_texts_arrive_whole_and_each_message_is_reported_once(kannel: Kannel, receiver: Receiver) -> None:
    texts = ["Hello €[1]", "Привет", LONG, LONGEST, "😀"]
    async with client_of(kannel, receiver) as client:
        answers = await asyncio.gather(*(send(client, number, text) for number, text in enumerate(texts, 1)))
    assert {answer.outcome for answer in answers} == {Outcome.accepted}
    taken = await receiver.first(len(texts) + 1, within_s=30)  # with the message that the SMSC's phone sends first
    receipts = {path: PROVIDER.parse_receipts(request) for path, request in taken if path.startswith("/receipts/")}
    assert sorted(receipts) == [f"/receipts/{number}.mac" for number in range(1, len(texts) + 1)]
    assert {receipt.state for told in receipts.values() for receipt in told or ()} == {ReceiptState.delivered}
    assert kannel.sent() == {f"7916{number:07}": 1 for number in range(1, len(texts) + 1)}
    assert {"Привет", LONG, LONGEST, "😀"} <= kannel.texts()


async def test_a_wrong_password_is_told_by_a_call_and_by_the_check(kannel: Kannel, receiver: Receiver) -> None:
    wrong = Provider(replace(SETTINGS, gateway_token="wrong"))
    async with client_of(kannel, receiver, wrong) as client:
        answer = await send(client, 1, "Hello")
    assert (answer.outcome, answer.reason) == (Outcome.configuration, ReasonCode.credentials_refused)
    for provider, outcome in ((PROVIDER, Outcome.accepted), (wrong, Outcome.configuration)):
        checked = await check_credentials(provider, kannel.url, within_s=10)
        assert checked is not None
        assert checked.outcome is outcome
    assert kannel.sent() == {}


async def test_a_phone_s_reply_comes_with_its_number(kannel: Kannel, receiver: Receiver) -> None:
    await receiver.first(1)
    await kannel.connect_smsc("Стоп")
    taken = await receiver.first(2)
    assert {path for path, _ in taken} == {"/replies/kannel.mac"}
    replies = [reply for _, request in taken for reply in PROVIDER.parse_replies(request) or ()]
    assert [(reply.phone, reply.text) for reply in replies] == [(NUMBER, "hello"), (NUMBER, "Стоп")]


async def test_what_kannel_took_survives_its_kill_and_is_reported(kannel: Kannel, receiver: Receiver) -> None:
    """It takes all while its SMSC is away, so that none is on its way when it is killed."""
    await receiver.first(1)
    await kannel.disconnect_smsc()
    async with client_of(kannel, receiver) as client:
        answers = await asyncio.gather(*(send(client, number, "Привет") for number in range(1, 31)))
        await kannel.kill_all()
        lost = await send(client, 31, "Привет")
    assert {answer.outcome for answer in answers} == {Outcome.accepted}
    assert lost.outcome is Outcome.not_sent
    receiver.statuses = [503] * 3  # the API is away
    await kannel.start()
    taken = await receiver.first(31, within_s=60)  # with the message that the SMSC's phone sends first
    assert {path for path, _ in taken} >= {f"/receipts/{number}.mac" for number in range(1, 31)}
    assert not receiver.statuses
    assert kannel.sent() == {f"7916{number:07}": 1 for number in range(1, 31)}
