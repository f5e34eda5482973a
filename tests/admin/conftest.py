from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from litestar import Litestar

from mailing.access.roles import Role
from mailing.access.sessions import open_session
from mailing.database.engine import transaction
from mailing.settings import Settings
from support.admin import Browser, SignedIn, browser_at
from support.api import running_app
from support.users import add_user


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Litestar]:
    async with running_app(settings) as app:
        yield app


@pytest.fixture
async def stranger(app: Litestar) -> AsyncIterator[Browser]:
    """Yield a browser without a session."""
    async with browser_at(app) as browser:
        yield browser


@pytest.fixture
async def signed_in(app: Litestar) -> AsyncIterator[SignedIn]:
    """Yield a function that opens a browser, signed in as a user of the given role."""
    async with AsyncExitStack() as browsers:

        async def as_(role: Role) -> Browser:
            async with transaction(app.state.sessions) as session:
                user_id = await add_user(session, role.name.lower(), role)
                token = await open_session(session, user_id, address="127.0.0.1", agent="tests")
            browser = await browsers.enter_async_context(browser_at(app))
            browser.cookies.set("mailing_session", token)
            return browser

        yield as_


@pytest.fixture
async def viewer(signed_in: SignedIn) -> Browser:
    return await signed_in(Role.VIEWER)


@pytest.fixture
async def editor(signed_in: SignedIn) -> Browser:
    return await signed_in(Role.EDITOR)


@pytest.fixture
async def sender(signed_in: SignedIn) -> Browser:
    return await signed_in(Role.SENDER)


@pytest.fixture
async def admin(signed_in: SignedIn) -> Browser:
    return await signed_in(Role.ADMIN)
