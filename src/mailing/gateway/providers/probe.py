"""The Probe server: one operation, no receipts, and no word on whether a repeated id is recognised."""

import re

import msgspec

from mailing.gateway import outcome
from mailing.gateway.outcome import Answer, Response
from mailing.gateway.providers.provider import JSON, Call, Outgoing, Provider
from mailing.settings import Settings

_encode = msgspec.json.Encoder().encode


class Probe(Provider):
    name = "probe"

    def __init__(self, settings: Settings) -> None:
        """Raise ValueError for a token that no call could be made with."""
        token = settings.gateway_token
        if token is not None and not re.fullmatch(r"[!-~]+", token):
            raise ValueError("the gateway's token must be visible ASCII characters without spaces")
        self.headers = JSON if token is None else JSON | {"Authorization": f"Bearer {token}"}

    def encode(self, message: Outgoing) -> Call:
        body = _encode({"id": message.id, "phone": int(message.phone), "text": message.text})
        return Call(f"/send/{message.id}", body)

    def classify(self, response: Response, message_id: int) -> Answer:
        return outcome.classify(response, message_id)
