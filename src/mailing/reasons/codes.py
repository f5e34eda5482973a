"""Reason codes. The schema has the same list: the domain `reason_code`."""

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

Fact = str | int | float


class ReasonCode(StrEnum):
    """Comments name the parameters that the words need."""

    # An answer of the gateway
    http_status = "http_status"  # http_status
    configuration = "configuration"  # http_status
    duplicate_id = "duplicate_id"  # http_status
    other_message_id = "other_message_id"  # http_status
    gateway_code = "gateway_code"  # code
    empty_body = "empty_body"
    html = "html"
    not_json = "not_json"
    not_an_object = "not_an_object"
    no_code = "no_code"
    invalid_code = "invalid_code"
    answer_too_long = "answer_too_long"  # max_bytes
    provider_code = "provider_code"  # error
    duplicate_reference = "duplicate_reference"  # error
    credentials_refused = "credentials_refused"  # error
    no_credit = "no_credit"  # error
    provider_setup = "provider_setup"  # error
    text_too_long = "text_too_long"  # max_length

    # A call without a usable answer
    no_free_connection = "no_free_connection"  # within_s
    no_connection = "no_connection"  # within_s
    no_answer = "no_answer"  # within_s
    no_complete_answer = "no_complete_answer"  # within_s
    no_time_left = "no_time_left"
    connection_closed = "connection_closed"
    connection_spoiled = "connection_spoiled"
    name_not_resolved = "name_not_resolved"
    invalid_certificate = "invalid_certificate"
    tls_failed = "tls_failed"
    connection_refused = "connection_refused"
    connection_reset = "connection_reset"
    connection_failed = "connection_failed"
    connection_error = "connection_error"  # errno
    closed_without_answer = "closed_without_answer"
    answer_broke_off = "answer_broke_off"
    invalid_http = "invalid_http"

    # An attempt that nobody saw the end of
    worker_lost = "worker_lost"
    restored = "restored"
    recorded_late = "recorded_late"

    # What the plan, a person or a client decided
    end_reached = "end_reached"
    no_window = "no_window"  # timezone, start, end
    timezone_unknown = "timezone_unknown"  # timezone
    unselected = "unselected"
    mailing_cancelled = "mailing_cancelled"
    mailing_deleted = "mailing_deleted"
    phone_reached = "phone_reached"
    client_opted_out = "client_opted_out"
    client_deleted = "client_deleted"
    stopped_while_sending = "stopped_while_sending"
    person_erased = "person_erased"
    resolved_failed = "resolved_failed"

    # What the database refused
    not_claimable = "not_claimable"  # error
    outcome_not_stored = "outcome_not_stored"

    # Of the circuit breaker alone
    most_calls_fail = "most_calls_fail"

    # Of an opt-out alone, beside `client_opted_out`
    added_opted_out = "added_opted_out"
    phone_taken_over = "phone_taken_over"
    imported = "imported"
    replied = "replied"  # word
    statement = "statement"


class Reason(msgspec.Struct, frozen=True):
    """`params` are what the words need. `last` among them is the code of the newest attempt, with its own params."""

    code: ReasonCode
    params: Mapping[str, Fact] = {}

    def after(self, last: "Reason | None") -> "Reason":
        """Return this reason with that of the newest attempt."""
        return Reason(self.code, {**last.params, "last": last.code.value, **self.params}) if last else self


def stored_reason(code: str | None, params: Mapping[str, Fact] | None) -> Reason | None:
    """Build the reason from the columns of a row."""
    return Reason(ReasonCode(code), params or {}) if code else None


def code_column(reasons: Iterable[Reason | None]) -> list[str | None]:
    return [reason.code.value if reason else None for reason in reasons]


def params_column(reasons: Iterable[Reason | None]) -> list[str | None]:
    """Return JSON for each reason that has parameters."""
    return [json.dumps(reason.params) if reason and reason.params else None for reason in reasons]
