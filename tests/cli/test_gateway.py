"""`mailing gateway urls` prints what the API accepts."""

import re

from click.testing import CliRunner, Result

from mailing.cli.main import cli

BASE = "https://mailing.example.org"


def urls(provider: str, database_url: str, **settings: str) -> Result:
    given = {"MAILING_GATEWAY_PROVIDER": provider, "MAILING_PUBLIC_URL": BASE, **settings}
    environ = {"MAILING_DATABASE_URL": database_url, "MAILING_TEST_DATABASE_URL": None, **given}
    return CliRunner().invoke(cli, ["gateway", "urls"], env=environ)


def test_replies_have_an_address_and_receipts_where_the_provider_knows_only_one(database_url: str) -> None:
    kannel, smsc = (urls(name, database_url).stdout.splitlines() for name in ("kannel", "smsc"))
    assert kannel[0] == "receipts  nothing to set: each message carries its own address"
    assert kannel[1].startswith(f"replies   {BASE}/replies/kannel.")
    assert kannel[1].endswith("?from=%p&text=%a")
    assert smsc[0].startswith(f"receipts  {BASE}/receipts/smsc.")
    assert re.fullmatch("secret    [A-Za-z0-9_-]{22}", smsc[1])
    assert smsc[2].startswith(f"replies   {BASE}/replies/smsc.")


def test_without_receipts_or_without_a_public_address_it_says_why_there_are_none(database_url: str) -> None:
    assert "probe sends no receipts" in str(urls("probe", database_url).exception)
    assert "MAILING_PUBLIC_URL is needed" in str(urls("kannel", database_url, MAILING_PUBLIC_URL="").exception)
