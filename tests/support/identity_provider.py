"""A real OpenID Connect provider on a socket, and a browser that signs in there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import httpx
from msgspec.structs import replace

from mailing.access.id_token import OidcClient
from mailing.access.roles import Role
from mailing.settings import Settings

BACK = "http://test/admin/sign-in/oidc/back"


@contextmanager
def running_provider() -> Iterator[str]:
    """Its issuer."""
    from oidc_provider_mock import User, run_server_in_thread  # noqa: PLC0415 - loads a whole provider

    clara = User(sub="7", claims={"preferred_username": "clara", "groups": ["office"]})
    with (
        mock.patch.dict(os.environ, {"AUTHLIB_INSECURE_TRANSPORT": "1"}),  # it speaks plain http here
        run_server_in_thread(require_nonce=True, user_claims=[clara]) as server,
    ):
        # one address: of two that are tried at once an older Python leaves the slower one's socket open
        yield f"http://127.0.0.1:{server.server_port}"


def client_of(issuer: str, *, client_id: str = "mailing") -> OidcClient:
    return OidcClient(
        issuer=issuer,
        client_id=client_id,
        client_secret="a:secret/ with blanks",
        groups_claim="groups",
        roles={"office": Role.EDITOR},
    )


def with_sign_in_at(issuer: str, settings: Settings) -> Settings:
    return replace(
        settings, oidc_issuer=issuer, oidc_client_id="mailing", oidc_client_secret="s", oidc_roles="office=editor"
    )


async def signed_in_at(address: str) -> dict[str, str]:
    """Return the query with which the provider sends the browser back."""
    async with httpx.AsyncClient(trust_env=False) as browser:
        answer = await browser.post(address, data={"sub": "7"})
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))
