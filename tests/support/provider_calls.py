"""What providers are given and asked, for their tables of tests."""

from datetime import UTC, datetime
from typing import Any, get_args
from urllib.parse import parse_qsl

from msgspec.structs import replace

from mailing.gateway.outcome import Answer, Response
from mailing.gateway.providers.provider import Call, Outgoing, Provider
from mailing.gateway.providers.receipt import ReceiptRequest
from mailing.settings import ProviderName

NOW = datetime(2030, 5, 17, 12, 0, tzinfo=UTC)
REPORTING = [name for name in get_args(ProviderName) if name != "probe"]  # those that send receipts
ID = 42
REFERENCE = f"0123456789-{ID}-0"
SECRET = "word"
URL = f"https://mailing.example.org/receipts/{ID}.mac"
MESSAGE = Outgoing(ID, "79161234567", "Привет, мир", "Shop", URL, 5400, REFERENCE)

# Answers that no documentation lists, and that any provider may give.
STRANGE_BODIES = [
    b"",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b"{}",
    b'{"messages": null}',
    b'{"messages": [{"status": {"groupId": "1", "id": true}}]}',
    b'{"id": 42, "cnt": "1"}',
    b'{"sid": 5, "status": "queued"}',
    b"<!doctype html><title>Maintenance</title>",
    b"0:",
    b"[" * 2000,
]


def listed(*rows: tuple[object, str]) -> list[tuple[str, object]]:
    """Return each code with its verdict, for a parametrized test."""
    return [(code, verdict) for verdict, codes in rows for code in codes.split()]


def outgoing(**changes: Any) -> Outgoing:  # noqa: ANN401 - any field
    return replace(MESSAGE, **changes)


def classify(provider: Provider, status: int, body: bytes = b"", *, retry_after: str | None = None) -> Answer:
    return provider.classify(Response(status, body, retry_after, NOW), ID)


def credentials_checked(provider: Provider, status: int, body: bytes) -> Answer:
    return provider.read_credentials_check(Response(status, body))


def form_of(call: Call) -> dict[str, str]:
    return dict(parse_qsl(call.body.decode(), strict_parsing=True))


def asked(*, query: str = "", body: bytes = b"", secret: str = SECRET) -> ReceiptRequest:
    return ReceiptRequest(query, body, secret)
