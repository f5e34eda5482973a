"""The receipt handler on a real socket, with the API's own database role and a provider that speaks JSON."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import httpx
import msgspec
import pytest
from litestar.types import HTTPScope, Receive, Scope, Send

from mailing.database import engine as engine_
from mailing.database.engine import create_engine, transaction
from mailing.database.read_pool import ReadPool
from mailing.gateway.outcome import Answer, Response
from mailing.gateway.providers.provider import Call, Outgoing, Provider
from mailing.gateway.providers.receipt import Forged, Receipt, ReceiptRequest, ReceiptState, Reply
from mailing.gateway.providers.smsc import Smsc
from mailing.observability.counters import WorkerCounters
from mailing.receipts.address import account_receipts_path, receipt_path, replies_path
from mailing.receipts.inbox import Inbox
from mailing.receipts.opt_out_words import opt_out_words
from mailing.receipts.repository import read_key
from mailing.receipts.routes import ProviderRequests, ReceiptHandler
from mailing.settings import Settings
from support.asgi import served
from support.plain_http import NO_TLS
from support.roles import url_as

NAME, FORMER = "talkative", "former"


class _Item(msgspec.Struct):
    state: ReceiptState
    id: int | None = None
    code: str | None = None
    at: datetime | None = None
    listed: bool = True
    signed: bool = True


class Talkative(Provider):
    """A provider whose receipts are a JSON list, or the query `state=3`."""

    sends_receipts = True
    receipt_answer = b"ACK"
    headers: Mapping[str, str] = {}

    def __init__(self, name: str = NAME, *, account_wide: bool = False) -> None:
        self.name = name
        self.receipts_account_wide = account_wide

    def parse_receipts(self, request: ReceiptRequest) -> Sequence[Receipt] | None:
        try:
            if request.query:
                return [Receipt(None, ReceiptState(int(request.query.removeprefix("state="))), None, None)]
            items = msgspec.json.decode(request.body, type=list[_Item])
        except (ValueError, msgspec.DecodeError):
            return None
        if not all(item.signed for item in items):
            raise Forged
        return [
            Receipt.of(item.state if item.listed else None, item.code, message_id=item.id, at=item.at) for item in items
        ]

    def parse_replies(self, request: ReceiptRequest) -> Sequence[Reply] | None:
        try:
            return [msgspec.json.decode(request.body, type=Reply)]
        except msgspec.DecodeError:
            return None

    def encode(self, message: Outgoing) -> Call:
        raise NotImplementedError

    def classify(self, response: Response, message_id: int) -> Answer:
        raise NotImplementedError


@dataclass(frozen=True)
class ReceiptServer:
    http: httpx.AsyncClient
    key: bytes
    counters: WorkerCounters

    async def receipt(self, message_id: int, state: int, **fields: object) -> httpx.Response:
        return await self.http.post(self.path(message_id), json=[{"state": state, **fields}])

    async def receipts(self, items: Sequence[Mapping[str, object]]) -> httpx.Response:
        return await self.http.post(account_receipts_path(self.key, NAME), json=items)

    async def reply(self, phone: str, text: str) -> httpx.Response:
        return await self.http.post(replies_path(self.key, NAME), json={"phone": phone, "text": text})

    def path(self, message_id: int) -> str:
        return receipt_path(self.key, NAME, message_id)

    def counted(self, name: str = "receipts") -> dict[str, float]:
        return {label: count for (of, label), count in self.counters.counted.items() if of == name}


@asynccontextmanager
async def receipt_server(database_url: str, *, account_wide: bool = False) -> AsyncIterator[ReceiptServer]:
    engine = create_engine(url_as("mailing_api", database_url), application="mailing-api", pool_size=2, wait_s=2)
    sessions, counters = engine_.sessions(engine), WorkerCounters()
    pool = ReadPool(engine)
    inbox = Inbox(pool, counters)
    words = opt_out_words("STOP,СТОП")
    providers = [
        Talkative(account_wide=account_wide),
        Talkative(FORMER),
        Smsc(Settings(gateway_token="its successor's")),
    ]
    handler = ReceiptHandler(sessions, providers, words, inbox, counters)
    async with transaction(sessions) as session:
        key = await read_key(session)
    writing = asyncio.create_task(inbox.run())
    async with served(ProviderRequests(_no_page, handler=lambda: handler, count=_no_count), lifespan="off") as url:
        limits = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)
        async with httpx.AsyncClient(verify=NO_TLS, base_url=url, timeout=30, limits=limits) as http:
            yield ReceiptServer(http, key, counters)
    writing.cancel()
    await pool.aclose()
    await engine.dispose()


async def _no_page(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("a request of the provider reached the pages")


def _no_count(_scope: HTTPScope, _status: int, _seconds: float) -> None:
    pass


@pytest.fixture
async def receiver(database_url: str) -> AsyncIterator[ReceiptServer]:
    """With an address for each message."""
    async with receipt_server(database_url) as receiver:
        yield receiver


@pytest.fixture
async def account_receiver(database_url: str) -> AsyncIterator[ReceiptServer]:
    """With one address for all messages."""
    async with receipt_server(database_url, account_wide=True) as receiver:
        yield receiver
