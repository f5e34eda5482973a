"""Reason codes, and their words for a reader. The schema has the same list: the domain `reason_code`."""

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum, auto
from typing import Self

import msgspec

from mailing.translations import _, translations

Fact = str | int | float


class WordedCode(StrEnum):
    """A code for the database and programs, and its words in English."""

    english: str

    def __new__(cls, code: str, english: str = "") -> Self:
        member = str.__new__(cls, code)
        member._value_, member.english = code, english
        return member


class ReasonCode(WordedCode):
    """Names in braces are parameters."""

    # An answer of the gateway
    http_status = auto(), _("HTTP {http_status}")
    configuration = auto(), _("HTTP {http_status}, check the gateway's address and token")
    duplicate_id = auto(), _("HTTP {http_status}, duplicate id: the gateway has this message already")
    other_message_id = auto(), _("HTTP {http_status} for another message id")
    gateway_code = auto(), _("gateway answered code {code}")
    empty_body = auto(), _("gateway answered an empty body")
    html = auto(), _("gateway answered HTML instead of JSON")
    not_json = auto(), _("gateway answered something instead of JSON")
    not_an_object = auto(), _("gateway answered JSON that is not an object")
    no_code = auto(), _("gateway answered JSON with no code")
    invalid_code = auto(), _("gateway answered JSON with a code that is not a 64-bit integer")
    answer_too_long = auto(), _("the answer is longer than {max_bytes} bytes")
    provider_code = auto(), _("the provider answered {error}")
    duplicate_reference = auto(), _("the provider answered {error}: it has this message already")
    credentials_refused = auto(), _("the provider answered {error}: it refuses MAILING_GATEWAY_USER and _TOKEN")
    no_credit = auto(), _("the provider answered {error}: the account's balance is empty, or the account is closed")
    provider_setup = auto(), _("the provider answered {error}: check sender, address and account")
    text_too_long = auto(), _("the text is longer than the provider's {max_length} characters")

    # A call without a usable answer
    no_free_connection = auto(), _("no free connection within {within_s} s")
    no_connection = auto(), _("no connection within {within_s} s")
    no_answer = auto(), _("no answer within {within_s} s")
    no_complete_answer = auto(), _("no complete answer within {within_s} s")
    no_time_left = auto(), _("no time was left when the connection was ready")
    connection_closed = auto(), _("the gateway had closed this connection before it was asked")
    connection_spoiled = auto(), _("the gateway had sent something on this connection before it was asked")
    name_not_resolved = auto(), _("the gateway's name does not resolve")
    invalid_certificate = auto(), _("the gateway's TLS certificate is not valid")
    tls_failed = auto(), _("the TLS handshake failed")
    connection_refused = auto(), _("connection refused")
    connection_reset = auto(), _("connection reset by peer")
    connection_failed = auto(), _("the connection failed")
    connection_error = auto(), _("the connection failed: {errno}")
    closed_without_answer = auto(), _("the gateway closed the connection without an answer")
    answer_broke_off = auto(), _("the answer broke off or is not valid HTTP")
    invalid_http = auto(), _("the answer is not valid HTTP")

    # An attempt whose end was not recorded
    worker_lost = auto(), _("the worker was lost during the call")
    restored = auto(), _("the database was restored from a backup; a call made after it may have arrived")
    recorded_late = auto(), _("accepted, recorded only after its lease was lost and the message claimed again")

    # A decision of the plan, a person or a client
    end_reached = auto(), _("the mailing's end was reached")
    no_window = auto(), _("no time within {start}-{end} in {timezone} is left before the mailing's end")
    timezone_unknown = auto(), _("the local hours of {timezone} are not known")
    unselected = auto(), _("an edit of the mailing no longer selects this client")
    mailing_cancelled = auto(), _("the mailing was cancelled")
    mailing_deleted = auto(), _("the mailing was deleted")
    phone_reached = auto(), _("the phone already had a message of this mailing")
    client_opted_out = auto(), _("the client opted out")
    client_deleted = auto(), _("the client was deleted")
    stopped_while_sending = auto(), _("the mailing was cancelled or the client left while it was being sent")
    person_erased = auto(), _("the person was erased; an attempt may have arrived")
    resolved_failed = auto(), _("resolved as not delivered")

    # A refusal of the database
    not_claimable = auto(), _("it could not be claimed: {error}")
    outcome_not_stored = auto(), _("it was called, and the outcome could not be stored")

    # Of the circuit breaker alone
    most_calls_fail = auto(), _("most calls fail")

    # Of an opt-out alone, beside `client_opted_out`
    added_opted_out = auto(), _("the client was added as opted out")
    phone_taken_over = auto(), _("a client that had opted out took this phone")
    imported = auto(), _("an imported file opted it out")
    replied = auto(), _("the phone replied {word}")
    statement = auto(), _("a statement in the database")


class Reason(msgspec.Struct, frozen=True):
    """`params` are what the words need. `last` among them is the code of the newest attempt, with its own params."""

    code: ReasonCode
    params: Mapping[str, Fact] = {}

    def after(self, last: "Reason | None") -> "Reason":
        """Return this reason with that of the newest attempt."""
        return Reason(self.code, {**last.params, "last": last.code.value, **self.params}) if last else self


def stored_reason(code: str | None, params: Mapping[str, Fact] | None) -> Reason | None:
    return Reason(ReasonCode(code), params or {}) if code else None


def code_column(reasons: Iterable[Reason | None]) -> list[str | None]:
    return [reason.code.value if reason else None for reason in reasons]


def params_column(reasons: Iterable[Reason | None]) -> list[str | None]:
    """Return JSON for each reason that has parameters."""
    return [json.dumps(reason.params) if reason and reason.params else None for reason in reasons]


class _Params(dict[str, Fact]):
    """A missing parameter is shown as a gap instead of failing the page."""

    def __missing__(self, name: str) -> str:
        return "…"


def words_of(reason: Reason | None, language: str = "en") -> str:
    """Render a reason; behind it that of the newest attempt, if it has one. Empty without a reason."""
    if reason is None:
        return ""
    gettext, params = translations(language).gettext, _Params(reason.params)
    codes = [reason.code, *([ReasonCode(str(params["last"]))] if "last" in params else [])]
    return "; ".join(gettext(code.english).format_map(params) for code in codes)
