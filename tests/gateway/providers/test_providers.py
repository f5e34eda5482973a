"""What holds for every provider."""

import re
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.gateway.outcome import Outcome
from mailing.gateway.providers import PROVIDERS, holds_unknown, needs_of, provider_of
from mailing.gateway.providers.provider import Provider
from mailing.settings import Settings
from support.provider_calls import STRANGE_BODIES, asked, classify, outgoing

ACCOUNT = f"AC{'0' * 32}"


def settings_of(name: str, **changes: object) -> Settings:
    given = {"gateway_user": ACCOUNT, "gateway_token": "token", "sender": "Shop", **changes}
    return Settings(gateway_provider=name, **given)  # type: ignore[arg-type] # names and values by a table


ALL: dict[str, Provider] = {name: provider_of(settings_of(name)) for name in PROVIDERS}
every_provider = pytest.mark.parametrize("provider", ALL.values(), ids=ALL)


def test_the_setting_offers_exactly_the_registered_ones() -> None:
    assert get_args(get_type_hints(Settings)["gateway_provider"]) == tuple(PROVIDERS)
    assert [provider.name for provider in ALL.values()] == list(PROVIDERS)


@every_provider
@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
@pytest.mark.parametrize("body", STRANGE_BODIES)
def test_a_success_whose_body_says_nothing_is_ambiguous(provider: Provider, status: int, body: bytes) -> None:
    assert classify(provider, status, body).outcome is Outcome.ambiguous


@every_provider
@given(status=st.integers(100, 599), body=st.binary(max_size=60), retry_after=st.none() | st.text(max_size=12))
def test_no_answer_raises(provider: Provider, status: int, body: bytes, retry_after: str | None) -> None:
    answer = classify(provider, status, body, retry_after=retry_after)
    assert answer.outcome in Outcome
    assert answer.provider_id is None or re.fullmatch("[!-~]{1,128}", answer.provider_id)


@every_provider
@given(query=st.text(max_size=60), body=st.binary(max_size=60))
def test_no_receipt_and_no_reply_raises(provider: Provider, query: str, body: bytes) -> None:
    request = asked(query=query, body=body)
    for receipt in provider.parse_receipts(request) or ():
        assert receipt.code is None or re.fullmatch("[ -~]{1,32}", receipt.code)
    provider.parse_replies(request)


@every_provider
@given(text=st.text(st.characters(codec="utf-8"), max_size=200), valid_for_s=st.integers(1, 10**7))
def test_a_text_changes_no_line_but_its_own(provider: Provider, text: str, valid_for_s: int) -> None:
    call = provider.encode(outgoing(text=text, valid_for_s=valid_for_s))
    lines = call.headers.split(b"\r\n")
    assert lines.pop() == b""
    assert all(re.fullmatch(rb"[A-Za-z-]+: [ -~]+", line) for line in lines)
    assert re.fullmatch(r"/[!-~]+", call.path)


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("probe", ()),
        ("kannel", ("gateway_user", "gateway_token")),
        ("twilio", ("gateway_user", "gateway_token", "sender")),
        ("infobip", ("gateway_token",)),
        ("smsc", ("gateway_token",)),
    ],
)
def test_each_says_what_it_needs_and_understands_receipts_without_it(name: str, needs: tuple[str, ...]) -> None:
    settings = settings_of(name, gateway_user=None, gateway_token=None, sender=None)
    assert needs_of(settings) == needs
    assert provider_of(settings).name == name


@pytest.mark.parametrize(
    ("name", "told", "holds"),
    [
        ("probe", None, False),
        ("infobip", None, False),
        ("kannel", None, True),
        ("twilio", None, True),
        ("smsc", None, True),
        ("kannel", "retry", False),
        ("infobip", "hold", True),
    ],
)
def test_a_provider_gets_a_repeat_if_it_recognises_one_or_as_told(name: str, told: str | None, holds: bool) -> None:
    assert holds_unknown(settings_of(name, on_unknown=told)) is holds
