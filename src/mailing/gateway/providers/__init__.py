"""SMS providers, one module each. Only the registration below names them all."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from mailing.gateway.providers.infobip import Infobip
from mailing.gateway.providers.kannel import Kannel
from mailing.gateway.providers.probe import Probe
from mailing.gateway.providers.provider import Provider
from mailing.gateway.providers.smsc import Smsc
from mailing.gateway.providers.twilio import Twilio
from mailing.settings import Settings


class Registration(msgspec.Struct, frozen=True):
    """`needs` are the settings without which no call can be made."""

    make: Callable[[Settings], Provider]
    needs: tuple[str, ...] = ()


PROVIDERS: Final[Mapping[str, Registration]] = {
    "probe": Registration(lambda its: Probe(its.gateway_token)),
    "kannel": Registration(
        lambda its: Kannel(its.gateway_user or "", its.gateway_token or "", its.sender or ""),
        ("gateway_user", "gateway_token"),
    ),
    "twilio": Registration(
        lambda its: Twilio(its.gateway_user or "", its.gateway_token or ""),
        ("gateway_user", "gateway_token", "sender"),
    ),
    "infobip": Registration(lambda its: Infobip(its.gateway_token or ""), ("gateway_token",)),
    "smsc": Registration(lambda its: Smsc(its.gateway_user, its.gateway_token or ""), ("gateway_token",)),
}


def provider_of(settings: Settings) -> Provider:
    """Return the configured provider. Raise ValueError for a token that no call could be made with.

    Without the settings in `needs_of` it still understands receipts.
    """
    return PROVIDERS[settings.gateway_provider].make(settings)


def needs_of(settings: Settings) -> tuple[str, ...]:
    """Return the settings that a worker needs to call the configured provider."""
    return PROVIDERS[settings.gateway_provider].needs


def sends_receipts(settings: Settings) -> bool:
    return settings.gateway_provider != "probe" and provider_of(settings).sends_receipts


def holds_unknown(settings: Settings) -> bool:
    """Whether a message that may have been accepted is parked as unknown instead of sent again.

    Unless the setting decides it, only a provider that recognises a repeat gets one. The Probe server gets one too.
    """
    if settings.on_unknown is not None:
        return settings.on_unknown == "hold"
    return settings.gateway_provider != "probe" and not provider_of(settings).repeat_is_safe


def receipts_expected(settings: Settings) -> bool:
    """Whether the provider sends receipts, and knows where to."""
    return bool(settings.public_url) and provider_of(settings).sends_receipts
