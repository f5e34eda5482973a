"""Whether the gateway can be reached and takes our credentials. No message is sent."""

import asyncio

import httpx

from mailing.gateway.client import HEADERS, checked_base, rounded
from mailing.gateway.http_transport import known_certificates, reason_of
from mailing.gateway.outcome import Answer, Outcome, Response
from mailing.gateway.providers.provider import Provider
from mailing.reasons.codes import Reason, ReasonCode, words_of


async def check_reachable(base_url: str, *, within_s: float) -> str | None:
    """Connect, TLS included, and send no request. Return what is wrong, or None."""
    url = httpx.URL(checked_base(base_url))
    tls = known_certificates() if url.scheme == "https" else None
    try:
        async with asyncio.timeout(within_s):
            _, writer = await asyncio.open_connection(url.host, url.port or (443 if tls else 80), ssl=tls)
    except TimeoutError:
        return words_of(Reason(ReasonCode.no_connection, {"within_s": rounded(within_s)}))
    except OSError as error:
        return words_of(reason_of(error))
    writer.close()
    return None


async def check_credentials(provider: Provider, base_url: str, *, within_s: float) -> Answer | None:
    """Make the provider's call that tells whether it accepts our account. None: it has no such call.

    `accepted`: it does. `configuration`: it does not, and why. Any other outcome says neither.
    """
    if (check := provider.credentials_check) is None:
        return None
    try:
        async with (
            httpx.AsyncClient(trust_env=False, timeout=within_s, headers=HEADERS | dict(provider.headers)) as http,
            asyncio.timeout(within_s),
        ):
            found = await http.request(check.method, checked_base(base_url) + check.path, content=check.body)
    except (httpx.HTTPError, TimeoutError):
        return Answer(Outcome.not_sent, reason=ReasonCode.connection_failed)
    return provider.read_credentials_check(Response(found.status_code, found.content))
