"""SMS providers, one module each. The registration below is all that names them."""

from mailing.gateway.providers.probe import Probe
from mailing.gateway.providers.provider import Provider
from mailing.settings import Settings


def provider_of(settings: Settings) -> Provider:
    """Return the configured provider. Raise ValueError for settings that no call could be made with."""
    return Probe(settings.gateway_token)
