"""`mailing up`: everything on this machine until Ctrl-C."""

from collections.abc import Callable

from mailing.process.local_stack import Site, data_dir_of, run_site, site_of
from mailing.process.supervisor import Signals
from mailing.settings import DOTENV, Settings, host_of, names_of_others, source_of


async def run_up(settings: Settings, say: Callable[[str], None]) -> None:
    signals = Signals()
    signals.listen()
    async with site_of(settings, sandbox_port=settings.port + 1, stop=signals.stop, say=say) as site:
        for line in _announcement(settings, site):
            say(line)
        await run_site(site, signals=signals, say=say)
    say("stopped")


def _announcement(settings: Settings, site: Site) -> list[str]:
    data = data_dir_of(settings)
    lines = [
        f"API            {site.url}/mailing/api/",
        f"admin page     {site.url}/admin/",
        *(
            [f"               user admin, password {site.admin_password}, shown only now"]
            if site.admin_password
            else []
        ),
        f"documentation  {site.url}/docs/",
        f"API key        {_key(settings, site)}",
        f"database       {f'embedded, data in {data}' if not settings.database_url else 'MAILING_DATABASE_URL'}",
        f"gateway        {_gateway(settings, site)}",
        f"settings       {source_of(DOTENV)}",
        *([f"               left alone there: {', '.join(others)}"] if (others := names_of_others(DOTENV)) else []),
        "Ctrl-C ends everything.",
    ]
    return [*lines, ""]


def _gateway(settings: Settings, site: Site) -> str:
    if settings.gateway_url:
        return host_of(settings.gateway_url)
    return f"sandbox, nothing reaches a phone (MAILING_GATEWAY_URL is not set); see {site.sandbox_url}/"


def _key(settings: Settings, site: Site) -> str:
    """Shown when it was made, and not in every log of a later start."""
    if site.made_key:
        return site.api_key
    return "the one in MAILING_API_KEY" if settings.api_key else f"the one in {data_dir_of(settings) / 'api-key'}"
