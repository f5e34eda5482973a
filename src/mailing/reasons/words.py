"""The words for a reason, in the language of the reader."""

from collections.abc import Mapping
from typing import Final

from mailing.reasons.codes import Fact, Reason, ReasonCode
from mailing.translations import translations


def _(sentence: str) -> str:
    """Mark a sentence for the catalogue."""
    return sentence


WORDS: Final[Mapping[ReasonCode, str]] = {
    ReasonCode.http_status: _("HTTP {http_status}"),
    ReasonCode.configuration: _("HTTP {http_status}, check the gateway's address and token"),
    ReasonCode.duplicate_id: _("HTTP {http_status}, duplicate id: the gateway has this message already"),
    ReasonCode.other_message_id: _("HTTP {http_status} for another message id"),
    ReasonCode.gateway_code: _("gateway answered code {code}"),
    ReasonCode.empty_body: _("gateway answered an empty body"),
    ReasonCode.html: _("gateway answered HTML instead of JSON"),
    ReasonCode.not_json: _("gateway answered something instead of JSON"),
    ReasonCode.not_an_object: _("gateway answered JSON that is not an object"),
    ReasonCode.no_code: _("gateway answered JSON with no code"),
    ReasonCode.invalid_code: _("gateway answered JSON with a code that is not a 64-bit integer"),
    ReasonCode.answer_too_long: _("the answer is longer than {max_bytes} bytes"),
    ReasonCode.provider_code: _("the provider answered {error}"),
    ReasonCode.duplicate_reference: _("the provider answered {error}: it has this message already"),
    ReasonCode.credentials_refused: _("the provider answered {error}: it refuses MAILING_GATEWAY_USER and _TOKEN"),
    ReasonCode.no_credit: _("the provider answered {error}: the account's balance is empty, or the account is closed"),
    ReasonCode.provider_setup: _("the provider answered {error}: check sender, address and account"),
    ReasonCode.text_too_long: _("the text is longer than the provider's {max_length} characters"),
    ReasonCode.no_free_connection: _("no free connection within {within_s} s"),
    ReasonCode.no_connection: _("no connection within {within_s} s"),
    ReasonCode.no_answer: _("no answer within {within_s} s"),
    ReasonCode.no_complete_answer: _("no complete answer within {within_s} s"),
    ReasonCode.no_time_left: _("no time was left when the connection was ready"),
    ReasonCode.connection_closed: _("the gateway had closed this connection before it was asked"),
    ReasonCode.connection_spoiled: _("the gateway had sent something on this connection before it was asked"),
    ReasonCode.name_not_resolved: _("the gateway's name does not resolve"),
    ReasonCode.invalid_certificate: _("the gateway's TLS certificate is not valid"),
    ReasonCode.tls_failed: _("the TLS handshake failed"),
    ReasonCode.connection_refused: _("connection refused"),
    ReasonCode.connection_reset: _("connection reset by peer"),
    ReasonCode.connection_failed: _("the connection failed"),
    ReasonCode.connection_error: _("the connection failed: {errno}"),
    ReasonCode.closed_without_answer: _("the gateway closed the connection without an answer"),
    ReasonCode.answer_broke_off: _("the answer broke off or is not valid HTTP"),
    ReasonCode.invalid_http: _("the answer is not valid HTTP"),
    ReasonCode.worker_lost: _("the worker was lost during the call"),
    ReasonCode.restored: _("the database was restored from a backup; a call made after it may have arrived"),
    ReasonCode.recorded_late: _("accepted, recorded only after its lease was lost and the message claimed again"),
    ReasonCode.end_reached: _("the mailing's end was reached"),
    ReasonCode.no_window: _("no opening of {start}-{end} in {timezone} before the mailing's end"),
    ReasonCode.timezone_unknown: _("the local hours of {timezone} are not known"),
    ReasonCode.unselected: _("an edit of the mailing no longer selects this client"),
    ReasonCode.mailing_cancelled: _("the mailing was cancelled"),
    ReasonCode.mailing_deleted: _("the mailing was deleted"),
    ReasonCode.phone_reached: _("the phone already had a message of this mailing"),
    ReasonCode.client_opted_out: _("the client opted out"),
    ReasonCode.client_deleted: _("the client was deleted"),
    ReasonCode.stopped_while_sending: _("the mailing was cancelled or the client left while it was being sent"),
    ReasonCode.person_erased: _("the person was erased; an attempt may have arrived"),
    ReasonCode.resolved_failed: _("resolved as not delivered"),
    ReasonCode.not_claimable: _("it could not be claimed: {error}"),
    ReasonCode.outcome_not_stored: _("it was called, and the outcome could not be stored"),
    ReasonCode.most_calls_fail: _("most calls fail"),
    ReasonCode.added_opted_out: _("the client was added as opted out"),
    ReasonCode.phone_taken_over: _("a client that had opted out took this phone"),
    ReasonCode.imported: _("an imported file opted it out"),
    ReasonCode.replied: _("the phone replied {word}"),
    ReasonCode.statement: _("a statement in the database"),
}


def names_http_status(code: str | None) -> bool:
    return code is not None and "{http_status}" in WORDS[ReasonCode(code)]


class _Params(dict[str, Fact]):
    """A parameter that a row does not have is shown as a gap, instead of failing the page."""

    def __missing__(self, name: str) -> str:
        return "…"


def words_of(reason: Reason | None, language: str = "en") -> str:
    """Render a reason; behind it that of the newest attempt, if it has one. Empty without a reason."""
    if reason is None:
        return ""
    gettext, params = translations(language).gettext, _Params(reason.params)
    codes = [reason.code, *([ReasonCode(str(params["last"]))] if "last" in params else [])]
    return "; ".join(gettext(WORDS[code]).format_map(params) for code in codes)
