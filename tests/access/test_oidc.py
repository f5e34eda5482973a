import base64
import hashlib
from urllib.parse import parse_qs, urlsplit

import pytest
from msgspec.structs import replace

from mailing.access.authentication import Identity, OidcState
from mailing.access.oidc import Provider
from mailing.access.roles import Role
from mailing.errors import Unauthorized
from mailing.settings import Settings
from support.identity_provider import BACK, client_of, signed_in_at
from support.logs import logged


async def answered(provider: Provider) -> tuple[dict[str, str], OidcState]:
    """Where the browser comes back with, and what it had kept."""
    address, begun = await provider.begin(redirect_uri=BACK, next_page="/admin/clients")
    return await signed_in_at(address), begun


async def test_somebody_whom_the_provider_signs_in_has_the_role_of_the_group(issuer: str) -> None:
    provider = Provider(client_of(issuer))
    answer, begun = await answered(provider)
    named = await provider.finish(answer, begun, redirect_uri=BACK)
    assert named == Identity(issuer, "7", "clara", Role.EDITOR)


async def test_the_browser_is_sent_with_a_fresh_state_nonce_and_challenge(issuer: str) -> None:
    provider = Provider(client_of(issuer))
    (address, begun), (_, other) = [await provider.begin(redirect_uri=BACK, next_page="") for _ in range(2)]
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    digest = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest()).decode().rstrip("=")
    assert (asked["code_challenge"], asked["code_challenge_method"]) == (digest, "S256")
    assert (asked["state"], asked["nonce"], asked["redirect_uri"]) == (begun.state, begun.nonce, BACK)
    assert begun.verifier not in address
    assert len({*(begun.state, begun.nonce, begun.verifier), *(other.state, other.nonce, other.verifier)}) == 6


async def test_a_code_is_good_once(issuer: str) -> None:
    provider = Provider(client_of(issuer))
    answer, begun = await answered(provider)
    await provider.finish(answer, begun, redirect_uri=BACK)
    with pytest.raises(Unauthorized):
        await provider.finish(answer, begun, redirect_uri=BACK)


@pytest.mark.parametrize("bad", [{"state": "x"}, {"state": ""}, {"code": "x"}, {"iss": "https://evil.example"}])
async def test_an_answer_of_another_sign_in_is_refused(issuer: str, bad: dict[str, str]) -> None:
    provider = Provider(client_of(issuer))
    answer, begun = await answered(provider)
    with pytest.raises(Unauthorized):
        await provider.finish(answer | bad, begun, redirect_uri=BACK)


async def test_a_token_with_another_nonce_is_refused(issuer: str) -> None:
    provider = Provider(client_of(issuer))
    answer, begun = await answered(provider)
    with pytest.raises(Unauthorized, match="is not valid"):
        await provider.finish(answer, replace(begun, nonce="x"), redirect_uri=BACK)


async def test_a_code_for_another_client_is_refused(issuer: str) -> None:
    answer, begun = await answered(Provider(client_of(issuer, client_id="another")))
    with pytest.raises(Unauthorized):
        await Provider(client_of(issuer)).finish(answer, begun, redirect_uri=BACK)


async def test_a_provider_that_names_another_issuer_is_refused(issuer: str) -> None:
    with pytest.raises(Unauthorized, match="is not valid"):
        await Provider(client_of(issuer + "/")).begin(redirect_uri=BACK, next_page="")


async def test_who_said_no_at_the_provider_is_told_so(issuer: str) -> None:
    provider = Provider(client_of(issuer))
    _, begun = await provider.begin(redirect_uri=BACK, next_page="")
    with pytest.raises(Unauthorized, match="did not sign you in"):
        await provider.finish({"error": "access_denied", "state": begun.state}, begun, redirect_uri=BACK)


async def test_somebody_without_a_group_of_ours_is_told_so(issuer: str) -> None:
    provider = Provider(replace(client_of(issuer), roles={"others": Role.ADMIN}))
    answer, begun = await answered(provider)
    with pytest.raises(Unauthorized, match="groups"):
        await provider.finish(answer, begun, redirect_uri=BACK)


@pytest.mark.parametrize("path", ["/nowhere", "/jwks", ""])
async def test_a_provider_that_does_not_answer_as_it_should_is_no_bug(issuer: str, path: str) -> None:
    unreachable = "http://localhost:1" if not path else issuer + path
    with pytest.raises(Unauthorized, match="Try again"):
        await Provider(client_of(unreachable)).begin(redirect_uri=BACK, next_page="")


async def test_the_log_says_with_which_status_the_provider_refuses_us(issuer: str) -> None:
    """Such as 401, when it has a new secret for us."""
    provider = Provider(client_of(issuer))
    answer, begun = await answered(provider)
    with logged(Settings()) as lines, pytest.raises(Unauthorized):
        await provider.finish(answer | {"code": "x"}, begun, redirect_uri=BACK)
    (line,) = lines("sign-in through the identity provider refused")
    assert line["reason"] == "/oauth2/token: HTTP 400"
