import hmac
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey
from msgspec.structs import replace

from mailing.access.id_token import OidcClient, UnknownKey, identity, verify
from mailing.access.roles import Role

NOW = 1_800_000_000
KEY = RSAKey.generate_key(2048, {"kid": "one"})
KEYS = KeySet([RSAKey.import_key(KEY.as_dict(private=False))])
CLIENT = OidcClient(
    issuer="https://id.example",
    client_id="mailing",
    client_secret=None,
    groups_claim="groups",
    roles={"office": Role.EDITOR, "ops": Role.ADMIN},
)
CLAIMS = {"iss": "https://id.example", "aud": "mailing", "sub": "7", "exp": NOW + 300, "iat": NOW, "nonce": "n"}


def token(header: dict[str, Any] | None = None, *, key: Any = KEY, **claims: object) -> str:  # noqa: ANN401 - any key
    said = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    algorithms = ["RS256", "ES256", "RS512"]
    return jwt.encode({"alg": "RS256", "kid": "one"} | (header or {}), said, key, algorithms=algorithms)


def forged(header: bytes, *, secret: bytes = b"") -> str:
    """Signed by a shared secret, or not at all; what joserfc would not make."""
    signed = f"{_base64(header)}.{token().split('.')[1]}"
    return f"{signed}.{_base64(hmac.digest(secret, signed.encode(), 'sha256')) if secret else ''}"


def _base64(value: bytes) -> str:
    return urlsafe_b64encode(value).decode().rstrip("=")


def claims_of(given: str) -> dict[str, Any]:
    return verify(given, KEYS, client=CLIENT, nonce="n", now=NOW)


@pytest.mark.parametrize(
    "good",
    [
        *({}, {"aud": ["mailing"]}, {"aud": ["mailing", "other"], "azp": "mailing"}),
        *({"exp": NOW - 29}, {"iat": NOW + 29}, {"nbf": NOW}),
    ],
)
def test_a_token_for_us_now_and_this_sign_in_is_believed(good: dict[str, Any]) -> None:
    assert claims_of(token(**good))["sub"] == "7"


@pytest.mark.parametrize(
    "bad",
    [
        *({name: None} for name in CLAIMS),
        *({"iss": issuer} for issuer in ("https://id.example/", "https://evil.example", "", 7, ["https://id.example"])),
        *({"aud": audience} for audience in ("other", [], ["other"], "mailing2", {"mailing": 1}, 7)),
        *({"aud": ["mailing", "other"], "azp": azp} for azp in (None, "other", ["mailing"])),
        {"azp": "other"},
        *({"exp": at} for at in (NOW - 30, NOW - 100, "soon", None, True, 1e400)),
        *({"iat": at} for at in (NOW + 31, "now")),
        {"nbf": NOW + 31},
        *({"nonce": nonce} for nonce in ("m", "", "N", ["n"], "n\ud800")),
        *({"sub": subject} for subject in ("", 7, ["7"])),
    ],
    ids=str,
)
def test_any_other_claim_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises((JoseError, ValueError)):
        claims_of(token(**bad))


def test_a_signature_is_by_the_provider_s_private_key_and_nothing_else() -> None:
    stranger = RSAKey.generate_key(2048, {"kid": "one"})
    bad = [
        *(token(key=stranger), token({"alg": "RS512"}), token()[:-4] + "AAAA", token().rpartition(".")[0] + "."),
        token({"alg": "ES256"}, key=ECKey.generate_key("P-256", {"kid": "one"})),
        *(forged(b'{"alg":"none"}'), forged(b'{"alg":"none","kid":"one"}')),
        forged(b'{"alg":"HS256","kid":"one"}', secret=KEY.as_pem(private=False)),
        *("", "a.b.c", "\ud800.b.c"),
    ]
    for given in bad:
        with pytest.raises((JoseError, ValueError)):
            claims_of(given)


def test_a_key_that_is_not_known_yet_is_told_from_a_bad_signature() -> None:
    with pytest.raises(UnknownKey):
        claims_of(token({"kid": "two"}, key=RSAKey.generate_key(2048, {"kid": "two"})))


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["office"], Role.EDITOR),
        (["ops", "office", "other"], Role.ADMIN),
        ("office", Role.EDITOR),
        (["other"], None),
        ([], None),
        (None, None),
        ([7, None, {"ops": 1}], None),
        ({"ops": True}, None),
        (["*"], None),
    ],
)
def test_the_highest_role_of_the_groups_counts(groups: object, role: Role | None) -> None:
    found = identity(CLAIMS | {"groups": groups}, CLIENT)
    assert (found and found.role) == role


def test_everybody_may_have_a_role() -> None:
    client = replace(CLIENT, roles={"*": Role.VIEWER, "ops": Role.ADMIN})
    roles = [identity(CLAIMS | {"groups": groups}, client) for groups in (["ops"], ["other"], None)]
    assert [found and found.role for found in roles] == [Role.ADMIN, Role.VIEWER, Role.VIEWER]


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": "clara", "email": "c@example.org"}, "clara"),
        ({"preferred_username": " \n", "email": "c@example.org"}, "c@example.org"),
        ({"preferred_username": 7, "name": "Clara\x00\u202e B"}, "Clara B"),
        ({"name": "x" * 300}, "x" * 100),
        ({}, "7"),
    ],
)
def test_a_name_is_taken_from_what_the_provider_says(claims: dict[str, object], name: str) -> None:
    found = identity(CLAIMS | {"groups": "ops"} | claims, CLIENT)
    assert found is not None
    assert found.name == name
