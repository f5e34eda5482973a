"""`mailing gateway`: the addresses that an operator enters at the provider."""

from collections.abc import Iterator

import click

from mailing.cli.database import in_transaction
from mailing.cli.options import example
from mailing.cli.runtime import configured
from mailing.errors import ConfigurationError
from mailing.gateway.providers import provider_of
from mailing.gateway.providers.provider import Provider
from mailing.receipts.address import account_receipts_path, replies_path, signing_secret
from mailing.receipts.repository import read_key
from mailing.settings import Settings


@click.group(epilog=example("mailing gateway urls"))
def gateway() -> None:
    """Connect the provider."""


@gateway.command("urls", epilog=example("mailing gateway urls"))
def gateway_urls() -> None:
    """Print the addresses to enter at the provider. Keep them secret: who knows one can forge receipts or replies."""
    settings = configured("public_url")
    provider = provider_of(settings)
    if not provider.sends_receipts:
        raise ConfigurationError([f"MAILING_GATEWAY_PROVIDER: {provider.name} sends no receipts and no replies"])
    for line in _lines(settings, provider, in_transaction(read_key, settings)):
        click.echo(line)


def _lines(settings: Settings, provider: Provider, key: bytes) -> Iterator[str]:
    base = str(settings.public_url).rstrip("/")
    if provider.receipts_account_wide:
        yield f"receipts  {base}{account_receipts_path(key, provider.name)}"
        yield f"secret    {signing_secret(key, provider.name)}"
    else:
        yield "receipts  nothing to set: each message carries its own address"
    yield f"replies   {base}{replies_path(key, provider.name)}{provider.reply_query}"
