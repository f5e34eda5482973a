"""SMS providers: `NAME.py` is the provider `NAME`, found by the setting; its class is `Name`."""

import re
from collections.abc import Sequence
from importlib import import_module
from typing import get_args

from mailing.gateway.providers.provider import Provider
from mailing.settings import PREFIX, ProviderName, Settings


def provider_of(settings: Settings) -> Provider:
    """Return the configured provider. Raise ValueError for a token that no call could be made with.

    It understands receipts even if `problems_of` finds problems.
    """
    return _kind(settings.gateway_provider)(settings)


def problems_of(settings: Settings) -> list[str]:
    """Return why no call of the configured provider could be made with these settings."""
    kind = _kind(settings.gateway_provider)
    problems = []
    if missing := [f"{PREFIX}{name.upper()}" for name in kind.required_settings if getattr(settings, name) is None]:
        problems.append(f"{settings.gateway_provider} needs {' and '.join(missing)}; set what is missing")
    if kind.user_form and settings.gateway_user is not None:
        pattern, words = kind.user_form
        if not re.fullmatch(pattern, settings.gateway_user):
            problems.append(f"{PREFIX}GATEWAY_USER must be {words}")
    return problems


def sends_receipts(settings: Settings) -> bool:
    return _kind(settings.gateway_provider).sends_receipts


def holds_unknown(settings: Settings) -> bool:
    """Whether a message that may have been accepted is parked as unknown instead of sent again.

    Unless the setting decides it, only a provider that recognises a repeat gets one. The Probe server gets one too.
    """
    if settings.on_unknown is not None:
        return settings.on_unknown == "hold"
    return settings.gateway_provider != "probe" and not provider_of(settings).repeat_is_safe


def reporting_providers(settings: Settings) -> Sequence[Provider]:
    """Return the providers that may still send receipts or replies: the configured one, and those before a switch."""
    configured = settings.gateway_provider
    names = sorted(get_args(ProviderName), key=lambda name: name != configured)
    return [kind(settings) for kind in map(_kind, names) if kind.sends_receipts]


def receipts_expected(settings: Settings) -> bool:
    """Whether the provider sends receipts, and knows where to."""
    return bool(settings.public_url) and sends_receipts(settings)


def _kind(name: ProviderName) -> type[Provider]:
    kind: type[Provider] = getattr(import_module(f"{__name__}.{name}"), name.title())
    return kind
