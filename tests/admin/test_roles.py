"""Every route of the admin page, taken from the application itself: whom it lets in, and from where."""

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from mailing.access.roles import Role
from mailing.access.sessions import open_session
from mailing.admin.guards import RoleGuard, same_origin
from mailing.database.engine import transaction
from mailing.web.parameters import SAFE
from support.admin import Browser, SignedIn, admin_handlers


def guards(handler: HTTPRouteHandler) -> list[object]:
    """As they were written: Litestar wraps one that is no coroutine."""
    return [getattr(guard, "func", guard) for guard in handler.resolve_guards()]


def needed(handler: HTTPRouteHandler) -> list[Role | None]:
    return [guard.role for guard in guards(handler) if isinstance(guard, RoleGuard)]


def test_every_route_names_who_may(app: Litestar) -> None:
    found = list(admin_handlers(app))
    assert len(found) > 20
    assert [(method, path) for method, path, handler in found if len(needed(handler)) != 1] == []
    assert [(method, path) for method, path, handler in found if same_origin not in guards(handler)] == []


async def test_every_route_lets_in_whom_it_names_and_nobody_below(app: Litestar, signed_in: SignedIn) -> None:
    browsers = {role: await signed_in(role) for role in Role}
    wrong = []
    for method, path, handler in admin_handlers(app):
        [least] = needed(handler)
        for number, role in enumerate(Role, start=1):
            browser = browsers[role]
            async with transaction(app.state.sessions) as session:  # a fresh one: some routes end it
                token = await open_session(session, number, address="", agent="")
            browser.cookies.clear()
            browser.cookies.set("mailing_session", token)
            answer = await browser.request(method, path)
            may = least is None or role >= least
            if (answer.status_code == 403) == may or answer.status_code >= 500:
                wrong.append((method, path, role.name, answer.status_code))
    assert wrong == []


async def test_every_route_sends_strangers_to_the_sign_in(app: Litestar, stranger: Browser) -> None:
    wrong = []
    for method, path, handler in admin_handlers(app):
        answer = await stranger.request(method, path)
        sent_away = answer.status_code == 303 and answer.headers["location"].startswith("/admin/sign-in?next=/admin")
        if needed(handler) != [None] and not sent_away:
            wrong.append((method, path, answer.status_code))
    assert wrong == []


async def test_every_form_of_another_site_is_refused(app: Litestar, admin: Browser) -> None:
    unsafe = [(method, path) for method, path, _ in admin_handlers(app) if method not in SAFE]
    assert len(unsafe) > 10
    foreign = [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site", "Origin": "http://test"}]
    for headers in foreign:
        answers = [(await admin.request(*each, headers=headers)).status_code for each in unsafe]
        assert answers == [403] * len(unsafe)
    del admin.headers["Sec-Fetch-Site"]
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {}):
        answers = [(await admin.request(*each, headers=headers)).status_code for each in unsafe]
        assert answers == [403] * len(unsafe)
