"""Validation of an ID token, and the user that it names. Pure: keys, nonce and time are arguments."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import InvalidClaimError, InvalidKeyIdError
from joserfc.jwk import KeySet
from msgspec import Struct

from mailing.access.api_keys import MAX_NAME
from mailing.access.authentication import Identity
from mailing.access.roles import Role

ALGORITHMS: Final = ["RS256", "PS256", "ES256"]  # signatures by a private key only, never "none" or a shared secret
LEEWAY_S: Final = 30
ANY_GROUP: Final = "*"


class OidcClient(Struct, frozen=True, kw_only=True):
    """Our registration at the provider. `roles` maps groups to roles; `*` is every user."""

    issuer: str
    client_id: str
    client_secret: str | None
    groups_claim: str
    roles: Mapping[str, Role]


class UnknownKey(Exception):
    """Signed by an unknown key: the provider may have changed its keys."""


def verify(token: str, keys: KeySet, *, client: OidcClient, nonce: str, now: int) -> dict[str, Any]:
    """Return the claims. Raise JoseError or ValueError for a token of another client, time or sign-in."""
    try:
        claims = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
    except InvalidKeyIdError:
        raise UnknownKey from None
    required = jwt.JWTClaimsRegistry(
        now=now,
        leeway=LEEWAY_S,
        iss={"essential": True, "value": client.issuer},
        aud={"essential": True, "value": client.client_id},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
        nonce={"essential": True},
    )
    required.validate(claims)
    _check_party(claims, client.client_id)
    if not secrets.compare_digest(str(claims["nonce"]).encode(), nonce.encode()):
        raise InvalidClaimError("nonce")
    return claims


def _check_party(claims: dict[str, Any], client_id: str) -> None:
    """Require that a token for several audiences names this client as the authorized party."""
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if (several or "azp" in claims) and claims.get("azp") != client_id:
        raise InvalidClaimError("azp")


def identity(claims: Mapping[str, Any], client: OidcClient) -> Identity | None:
    """Return None for a user whose groups have no role."""
    role = _role(claims.get(client.groups_claim), client.roles)
    if role is None:
        return None
    return Identity(client.issuer, str(claims["sub"]), _name(claims), role)


def _role(groups: object, roles: Mapping[str, Role]) -> Role | None:
    named = groups if isinstance(groups, list) else [groups]
    return max(
        (roles[group] for group in [*named, ANY_GROUP] if isinstance(group, str) and group in roles), default=None
    )


def _name(claims: Mapping[str, Any]) -> str:
    named = (claims.get(claim) for claim in ("preferred_username", "email", "name", "sub"))
    readable = ("".join(letter for letter in name if letter.isprintable()) for name in named if isinstance(name, str))
    return next((name.strip() for name in readable if name.strip()), "nameless")[:MAX_NAME]
