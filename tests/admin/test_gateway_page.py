"""The gateway's page says what the configured provider promises."""

import pytest
from msgspec.structs import replace

from mailing.admin.gateway.routes import promises
from mailing.settings import Settings
from support.admin import Browser


@pytest.mark.parametrize(
    ("provider", "public_url", "told", "holds", "receipts"),
    [
        ("probe", None, None, False, "none"),
        ("probe", "https://mailing.example.org", "hold", True, "none"),
        ("kannel", None, None, True, "off"),
        ("kannel", "https://mailing.example.org", "retry", False, "on"),
        ("infobip", "https://mailing.example.org", None, False, "on"),
    ],
)
def test_what_is_promised_follows_from_the_settings(
    settings: Settings, provider: str, public_url: str | None, told: str | None, holds: bool, receipts: str
) -> None:
    configured = replace(settings, gateway_provider=provider, public_url=public_url, on_unknown=told)
    assert promises(configured) == {"provider": provider, "holds_unknown": holds, "receipts": receipts}


async def test_the_page_says_it(viewer: Browser) -> None:
    page = await viewer.get("/admin/gateway")
    assert "probe: a call without a clear answer is repeated under the same id." in page.text
