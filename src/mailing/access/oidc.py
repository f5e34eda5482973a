"""Sign-in through an OpenID Connect provider: authorization code with PKCE, state and nonce.

    begin   → the provider's address to redirect to, and the state that the browser keeps meanwhile
    finish  → the validated ID token for the code, and the user that it names

Only the signed ID token is trusted. It comes over TLS from the provider's token endpoint, and its keys from the address
that the issuer publishes. Nothing else is requested, and no token is stored.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx
import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from msgspec import Struct

from mailing.access.authentication import Identity, OidcState
from mailing.access.id_token import OidcClient, UnknownKey, identity, verify
from mailing.access.roles import Role
from mailing.errors import Unauthorized
from mailing.observability import log
from mailing.settings import Settings, roles_of_groups

logger = log.get(__name__)

T = TypeVar("T")

CACHE_S: Final = 3600  # of discovery and keys
REFRESH_S: Final = 60  # at least, between two requests for keys because of an unknown one
TIMEOUT_S: Final = 10
MAX_BYTES: Final = 256 * 1024


class Metadata(Struct, frozen=True):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class _Tokens(Struct):
    id_token: str


class Provider:
    """The identity provider, with a cache of its metadata and keys. One for each process."""

    def __init__(self, client: OidcClient) -> None:
        self._client = client
        self._metadata: tuple[float, Metadata] | None = None
        self._keys: tuple[float, KeySet] | None = None

    @classmethod
    def configured(cls, settings: Settings) -> Self:
        return cls(
            OidcClient(
                issuer=str(settings.oidc_issuer),
                client_id=str(settings.oidc_client_id),
                client_secret=settings.oidc_client_secret,
                groups_claim=settings.oidc_groups_claim,
                roles={group: Role.named(role) for group, role in roles_of_groups(settings).items()},
            )
        )

    async def begin(self, *, redirect_uri: str, next_page: str) -> tuple[str, OidcState]:
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        begun = OidcState(state, nonce, verifier, next_page)
        digest = hashlib.sha256(verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid profile email",
            "state": state,
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        endpoint = (await self._discovered()).authorization_endpoint
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}", begun

    async def finish(self, answer: Mapping[str, str], begun: OidcState, *, redirect_uri: str) -> Identity:
        """Return the user. `answer` is the query of the redirect back. Raise Unauthorized for an invalid one."""
        if not secrets.compare_digest(answer.get("state", "").encode(), begun.state.encode()):
            raise _refused("state", "This sign-in was not started in this browser or has expired. Start again.")
        if answer.get("iss", self._client.issuer) != self._client.issuer:
            raise _refused("issuer of the answer")
        if "code" not in answer:
            raise _refused("no code", "The identity provider did not sign you in.")
        token = await self._redeemed(answer["code"], begun, redirect_uri)
        named = identity(await self._claims(token, nonce=begun.nonce), self._client)
        if named is None:
            raise _refused("no role", "None of your groups at the identity provider has access here. Ask an admin.")
        return named

    async def _redeemed(self, code: str, begun: OidcState, redirect_uri: str) -> str:
        metadata = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": begun.verifier,
        }
        basic = self._authenticate(form, metadata)
        return (await _fetch("POST", metadata.token_endpoint, _Tokens, data=form, auth=basic)).id_token

    def _authenticate(self, form: dict[str, str], metadata: Metadata) -> httpx.BasicAuth | None:
        if self._client.client_secret and "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            # encoded as in a form, by RFC 6749 section 2.3.1
            return httpx.BasicAuth(quote_plus(self._client.client_id), quote_plus(self._client.client_secret))
        form["client_id"] = self._client.client_id
        if self._client.client_secret:
            form["client_secret"] = self._client.client_secret
        return None

    async def _claims(self, token: str, *, nonce: str) -> dict[str, Any]:
        for young_s in (CACHE_S, REFRESH_S):
            keys = await self._known_keys(young_s)
            try:
                return verify(token, keys, client=self._client, nonce=nonce, now=int(time.time()))
            except UnknownKey:
                continue
            except (JoseError, ValueError) as error:
                raise _refused(f"ID token: {type(error).__name__}") from None
        raise _refused("ID token: unknown key")

    async def _discovered(self) -> Metadata:
        if self._metadata and time.monotonic() - self._metadata[0] < CACHE_S:
            return self._metadata[1]
        address = f"{self._client.issuer.rstrip('/')}/.well-known/openid-configuration"
        metadata = await _fetch("GET", address, Metadata)
        if metadata.issuer != self._client.issuer or not _is_as_safe(metadata):
            raise _refused("discovery")
        self._metadata = (time.monotonic(), metadata)
        return metadata

    async def _known_keys(self, young_s: float) -> KeySet:
        if self._keys and time.monotonic() - self._keys[0] < young_s:
            return self._keys[1]
        published = await _fetch("GET", (await self._discovered()).jwks_uri, dict[str, Any])
        try:
            keys = KeySet.import_key_set(published)  # type: ignore[arg-type] # whatever it is, it is checked there
        except (JoseError, KeyError, TypeError, ValueError):
            raise _refused("keys") from None
        self._keys = (time.monotonic(), keys)
        return keys


async def _fetch(method: str, address: str, kind: type[T], **sent: Any) -> T:  # noqa: ANN401 - httpx's own arguments
    """Return the answer's JSON as `kind`. Follow no redirect and use no proxy."""
    try:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http,
            http.stream(method, address, headers={"Accept": "application/json"}, **sent) as response,
        ):
            return msgspec.json.decode(await _read(response), type=kind)
    except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError, UnicodeDecodeError) as error:
        status = f"HTTP {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else None
        raise _refused(f"{urlsplit(address).path}: {status or type(error).__name__}", _UNAVAILABLE) from None


async def _read(response: httpx.Response) -> bytes:
    response.raise_for_status()
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BYTES:
            raise httpx.DecodingError("too long")
    return bytes(body)


_UNAVAILABLE = "The identity provider is unavailable. Try again."


def _refused(reason: str, sentence: str = "The identity provider's answer is not valid.") -> Unauthorized:
    """Log the reason and hide it from the caller, who may have forged the answer."""
    logger.warning("sign-in through the identity provider refused", reason=reason)
    return Unauthorized(sentence)


def _is_as_safe(metadata: Metadata) -> bool:
    """Return whether every endpoint is as protected as the issuer's own address."""
    addresses = (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri)
    schemes = {urlsplit(address).scheme for address in addresses}
    return schemes == {"https"} or (not metadata.issuer.startswith("https:") and schemes <= {"http", "https"})
