"""What holds for every provider."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.gateway import providers
from mailing.gateway.outcome import Outcome
from mailing.gateway.providers import holds_unknown, problems_of, provider_of, reporting_providers
from mailing.gateway.providers.probe import BIGINT
from mailing.gateway.providers.provider import Provider
from mailing.gateway.providers.receipt import Forged
from mailing.gateway.sandbox import dialects
from mailing.gateway.sandbox.dialects import dialect_of
from mailing.reasons.codes import words_of
from mailing.settings import ProviderName, Settings
from support.provider_calls import (
    ID,
    REFERENCE,
    REPORTING,
    STRANGE_BODIES,
    asked,
    classify,
    credentials_checked,
    outgoing,
)

ACCOUNT = f"AC{'0' * 32}"


def settings_of(name: str, **changes: object) -> Settings:
    given = {"gateway_user": ACCOUNT, "gateway_token": "token", "sender": "Shop", **changes}
    return Settings(gateway_provider=name, **given)  # type: ignore[arg-type] # names and values by a table


ALL: dict[str, Provider] = {name: provider_of(settings_of(name)) for name in get_args(ProviderName)}
every_provider = pytest.mark.parametrize("provider", ALL.values(), ids=ALL)


def test_each_name_is_a_provider_and_a_dialect_and_no_module_is_left_over() -> None:
    assert {name: provider.name for name, provider in ALL.items()} == {name: name for name in ALL}
    assert all(dialect_of(name).path for name in ALL)
    assert _modules(providers.__path__[0]) == ALL.keys() | {"parsing", "provider", "receipt", "verdicts"}
    assert _modules(dialects.__path__[0]) == ALL.keys() | {"dialect"}


def test_what_the_providers_before_a_switch_report_is_understood_after_the_configured_one() -> None:
    found = [provider.name for provider in reporting_providers(settings_of("twilio"))]
    assert found[0] == "twilio"
    assert sorted(found) == sorted(REPORTING)


def _modules(package: str) -> set[str]:
    return {file.stem for file in Path(package).glob("*.py")} - {"__init__"}


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


# What the bodies of all providers are made of, with values that none of them sends.
NAMES = st.sampled_from(
    [
        *("messages", "results", "messageId", "status", "groupId", "id", "name", "error", "doneAt", "from", "text"),
        *("sid", "code", "error_code", "cnt", "balance"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=9) | st.just(REFERENCE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)


@every_provider
@given(status=st.sampled_from([200, 201, 202, 400, 401, 503]), told=st.dictionaries(NAMES, VALUES, max_size=6))
def test_no_odd_member_raises_and_each_code_fits_the_database(
    provider: Provider, status: int, told: dict[str, object]
) -> None:
    body = json.dumps(told).encode()
    answer = classify(provider, status, body)
    assert answer.code is None or answer.code in BIGINT
    assert answer.full_reason is None or words_of(answer.full_reason)
    assert credentials_checked(provider, status, body).outcome in Outcome
    with suppress(Forged):
        for receipt in provider.parse_receipts(asked(body=body)) or ():
            assert receipt.message_id in {None, ID}
    provider.parse_replies(asked(body=body))


@every_provider
@given(query=st.text(max_size=60), body=st.binary(max_size=60))
def test_no_receipt_and_no_reply_raises(provider: Provider, query: str, body: bytes) -> None:
    request = asked(query=query, body=body)
    with suppress(Forged):
        for receipt in provider.parse_receipts(request) or ():
            assert receipt.code is None or re.fullmatch("[ -~]{1,32}", receipt.code)
    provider.parse_replies(request)


def test_a_provider_without_replies_reads_none() -> None:
    for request in (asked(body=b"=STOP"), asked(query="=STOP&from=7"), asked()):
        assert ALL["probe"].parse_replies(request) is None
        assert ALL["probe"].parse_receipts(request) is None


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
        ("probe", None),
        ("kannel", "MAILING_GATEWAY_USER and MAILING_GATEWAY_TOKEN"),
        ("twilio", "MAILING_GATEWAY_USER and MAILING_GATEWAY_TOKEN and MAILING_SENDER"),
        ("infobip", "MAILING_GATEWAY_TOKEN"),
        ("smsc", "MAILING_GATEWAY_TOKEN"),
    ],
)
def test_each_says_what_it_needs_and_understands_receipts_without_it(name: str, needs: str | None) -> None:
    settings = settings_of(name, gateway_user=None, gateway_token=None, sender=None)
    assert problems_of(settings) == ([f"{name} needs {needs}; set what is missing"] if needs else [])
    assert problems_of(settings_of(name)) == []
    assert provider_of(settings).name == name


@pytest.mark.parametrize("user", ["me@example.org", "", "AC0", f"{ACCOUNT}0", f"{ACCOUNT}\n"])
def test_the_user_of_twilio_is_an_account_s_sid(user: str) -> None:
    assert problems_of(settings_of("twilio", gateway_user=user)) == [
        "MAILING_GATEWAY_USER must be the SID of a Twilio account, such as AC and 32 digits or letters from a to f"
    ]


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
