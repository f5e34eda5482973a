"""Whether the gateway can be reached and takes our credentials. No message is sent."""

import asyncio

import httpx

from mailing.gateway.client import HEADERS, checked_base, rounded
from mailing.gateway.http_transport import TRANSPORT_ERRORS, HttpTransport, known_certificates, reason_of
from mailing.gateway.outcome import Answer, Outcome, Response
from mailing.gateway.providers.provider import Provider
from mailing.reasons.codes import Reason, ReasonCode, words_of


async def check_reachable(base_url: str, *, within_s: float) -> str | None:
    """Connect as calls do, TLS included, and send no request. Return what is wrong, or None."""
    url = checked_base(base_url)
    certificates = known_certificates() if url.startswith("https") else None
    transport = HttpTransport(url, headers={}, certificates=certificates, concurrency=1)
    try:
        async with asyncio.timeout(within_s):
            (await transport.connect()).release()
    except TimeoutError:
        return words_of(Reason(ReasonCode.no_connection, {"within_s": rounded(within_s)}))
    except TRANSPORT_ERRORS as error:
        return words_of(reason_of(error))
    finally:
        await transport.close()
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
