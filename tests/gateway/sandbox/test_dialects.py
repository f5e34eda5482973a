"""The sandbox is each provider on demand: it answers, reports and replies as the product reads it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from mailing.gateway.checks import check_credentials
from mailing.gateway.client import GatewayClient, Origin
from mailing.gateway.outcome import Outcome
from mailing.gateway.providers import provider_of
from mailing.gateway.providers.provider import Provider
from mailing.gateway.providers.receipt import ReceiptState
from mailing.gateway.sandbox.app import running
from mailing.gateway.sandbox.behaviour import Behaviour
from mailing.gateway.sandbox.dialects import base_path_of
from mailing.settings import Settings
from support.gateway_calls import send
from support.provider_calls import REPORTING, SECRET
from support.receiver import Receiver

ACCOUNT = f"AC{'0' * 32}"
every_reporting = pytest.mark.parametrize("name", REPORTING)


def provider(name: str, token: str = "secret") -> Provider:
    given = {"gateway_user": ACCOUNT, "gateway_token": token, "sender": "Shop"}
    return provider_of(Settings(gateway_provider=name, **given))  # type: ignore[arg-type] # names by a table


@asynccontextmanager
async def calling(
    name: str, behaviour: Behaviour, *, receipts_at: str | None = None, token: str = "secret"
) -> AsyncIterator[GatewayClient]:
    receipt_url = (lambda message_id: f"{receipts_at}/receipts/{message_id}.mac") if receipts_at else None
    async with running("127.0.0.1", 0, behaviour, provider=name, token="secret") as port:
        client = GatewayClient(
            provider(name, token),
            base_url=f"http://127.0.0.1:{port}{base_path_of(name)}",
            timeout_s=5,
            concurrency=4,
            origin=Origin("Shop", receipt_url=receipt_url),
        )
        async with client:
            yield client


def behaving(receiver: Receiver, **fields: object) -> Behaviour:
    account = {"receipts_to": f"{receiver.url}/receipts/account.mac", "receipts_secret": SECRET}
    told = {"receipt_after_s": 0.0, **account, **fields}
    return Behaviour(**told)  # type: ignore[arg-type] # fields by a table


FAULTS = {
    "accept": Outcome.accepted,
    "throttle_429": Outcome.throttled,
    "refuse_400": Outcome.refused,
    "unauthorized_401": Outcome.configuration,
    **dict.fromkeys(("error_500", "garbage", "accept_then_drop", "drop"), Outcome.ambiguous),
}


@every_reporting
@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_what_the_client_takes_it_for(name: str, fault: str) -> None:
    behaviour = Behaviour() if fault == "accept" else Behaviour(**{fault: 1.0})  # type: ignore[arg-type] # chances
    async with calling(name, behaviour) as client:
        assert (await send(client)).outcome is FAULTS[fault]


@pytest.mark.parametrize(
    ("name", "outcome"), [("infobip", Outcome.soft_refusal), ("kannel", Outcome.throttled), ("smsc", Outcome.throttled)]
)
async def test_a_provider_that_is_busy_says_so_in_its_own_way(name: str, outcome: Outcome) -> None:
    async with calling(name, Behaviour(soft_refusal=1.0)) as client:
        assert (await send(client)).outcome is outcome


@pytest.mark.parametrize("name", [name for name in REPORTING if provider(name).credentials_check])
async def test_credentials_are_checked_without_a_message(name: str) -> None:
    async with running("127.0.0.1", 0, Behaviour(), provider=name, token="secret") as port:
        for token, outcome in (("secret", Outcome.accepted), ("wrong", Outcome.configuration)):
            answer = await check_credentials(provider(name, token), f"http://127.0.0.1:{port}", within_s=5)
            assert answer is not None
            assert answer.outcome is outcome
        nowhere = await check_credentials(provider(name), "http://127.0.0.1:1", within_s=5)
        assert nowhere is not None
        assert nowhere.outcome is Outcome.not_sent


async def test_only_infobip_knows_a_message_that_it_has() -> None:
    for name in REPORTING:
        async with calling(name, Behaviour()) as client:
            assert [(await send(client)).outcome for _ in range(2)] == [Outcome.accepted] * 2
            assert ((await send(client)).reason is not None) == (name == "infobip")


async def states(name: str, receiver: Receiver, count: int) -> list[ReceiptState]:
    requests = [replace(request, secret=SECRET) for _, request in await receiver.first(count)]
    parsed = [provider(name).parse_receipts(request) for request in requests]
    assert None not in parsed
    return [receipt.state for receipts in parsed for receipt in receipts or ()]


@every_reporting
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [ReceiptState.delivered]),
        ({"receipt_undelivered": 1.0}, [ReceiptState.undelivered]),
        ({"receipt_twice": 1.0}, [ReceiptState.delivered, ReceiptState.delivered]),
        ({"receipt_reversed": 1.0}, [ReceiptState.delivered, ReceiptState.accepted]),
    ],
)
async def test_receipts_come_as_the_behaviour_says(
    name: str, fields: dict[str, float], expected: list[ReceiptState], receiver: Receiver
) -> None:
    async with calling(name, behaving(receiver, **fields), receipts_at=receiver.url) as client:
        await send(client)
        assert await states(name, receiver, len(expected)) == expected
    account_wide = provider(name).receipts_account_wide
    assert receiver.taken[0][0] == ("/receipts/account.mac" if account_wide else "/receipts/7.mac")


@every_reporting
async def test_an_early_receipt_is_there_before_the_answer(name: str, receiver: Receiver) -> None:
    async with calling(name, behaving(receiver, receipt_early=1.0), receipts_at=receiver.url) as client:
        await send(client)
        assert len(receiver.taken) == 1


@every_reporting
async def test_a_receipt_is_repeated_until_it_is_taken(name: str, receiver: Receiver) -> None:
    receiver.statuses = [503]
    async with calling(name, behaving(receiver), receipts_at=receiver.url) as client:
        await send(client)
        assert await states(name, receiver, 1) == [ReceiptState.delivered]


async def test_a_forged_receipt_has_another_address(receiver: Receiver) -> None:
    async with calling("kannel", behaving(receiver, receipt_forged=1.0), receipts_at=receiver.url) as client:
        await send(client)
        assert await states("kannel", receiver, 2) == [ReceiptState.undelivered, ReceiptState.delivered]
    assert [path for path, _ in receiver.taken] == ["/receipts/7.maA", "/receipts/7.mac"]


async def test_no_receipt_comes_where_none_was_asked_for_or_where_it_is_lost(receiver: Receiver) -> None:
    for behaviour, receipts_at in ((Behaviour(), None), (Behaviour(receipt_lost=1.0, receipt_after_s=0), receiver.url)):
        async with calling("kannel", behaviour, receipts_at=receipts_at) as client:
            await send(client)
    assert receiver.taken == []


@every_reporting
async def test_a_phone_replies(name: str, receiver: Receiver) -> None:
    behaviour = Behaviour(reply=1.0, reply_text="Стоп", replies_to=f"{receiver.url}/replies/x.mac", receipt_after_s=0)
    async with calling(name, behaviour) as client:
        await send(client)
        [(path, request)] = await receiver.first(1)
    [reply] = provider(name).parse_replies(request) or []
    assert (urlsplit(path).path, reply.phone.removeprefix("+"), reply.text) == ("/replies/x.mac", "79161234567", "Стоп")
