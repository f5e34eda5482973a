import re

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from access_fixtures import PASSWORD
from admin.conftest import SignedIn
from mailing.access.roles import Role
from rows import run, value

EVIL = "<script>alert(1)</script>"


@pytest.fixture
async def admin(signed_in: SignedIn) -> httpx.AsyncClient:
    return await signed_in(Role.ADMIN)


async def key(admin: httpx.AsyncClient, *, scope: str) -> str:
    """A new one, as the page shows it."""
    answer = await admin.post("/admin/keys", data={"name": "crm", "scope": scope})
    assert answer.status_code == 201
    return str(re.findall(r"mk_[\w-]{43}", answer.text)[0])


async def test_an_admin_makes_a_user_and_changes_role_password_and_access(
    admin: httpx.AsyncClient, stranger: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    made = await admin.post("/admin/users", data={"name": "boris", "role": "editor", "password": PASSWORD})
    page = made.headers["location"]
    assert ">boris</h1>" in (await admin.get(page)).text
    assert (await admin.post(f"{page}/role", data={"role": "sender"})).status_code == 303
    assert (await admin.post(f"{page}/password", data={"password": "entirely new words"})).status_code == 303
    signing_in = {"name": "boris", "password": "entirely new words"}
    assert (await stranger.post("/admin/sign-in", data=signing_in)).status_code == 303
    assert "sender" in (await stranger.get("/admin/account")).text
    assert (await admin.post(f"{page}/disable")).status_code == 303
    assert (await stranger.get("/admin/account")).status_code == 303
    assert (await admin.post(f"{page}/enable")).status_code == 303
    assert (await stranger.post("/admin/sign-in", data=signing_in)).status_code == 303
    noted = await run(engine, "SELECT kind, actor FROM event WHERE actor LIKE '%(admin)' ORDER BY id")
    assert [tuple(row) for row in noted] == [
        (f"user.{what}", "user 1 (admin)") for what in ("created", "role_set", "password_set", "disabled", "enabled")
    ]


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"name": ""}, "Name: must have 1 to 100"),
        ({"name": "Admin"}, "Name: is another user&#39;s"),
        ({"role": "root"}, "Role: choose one of the roles"),
        ({"password": "short"}, "Password: must have 10 to 200"),
    ],
)
async def test_a_refused_user_is_shown_with_what_was_entered(
    admin: httpx.AsyncClient, bad: dict[str, str], complaint: str
) -> None:
    answer = await admin.post("/admin/users", data={"name": "boris", "role": "editor", "password": PASSWORD} | bad)
    assert answer.status_code == 400
    assert answer.text.count(complaint) == 2, "in the summary and beside the field"
    assert PASSWORD not in answer.text


async def test_the_last_admin_can_not_be_locked_out(admin: httpx.AsyncClient) -> None:
    for change, sent in (("role", {"role": "viewer"}), ("disable", {})):
        answer = await admin.post(f"/admin/users/1/{change}", data=sent)
        assert answer.status_code == 400
        assert "This is the last admin" in answer.text


async def test_no_name_becomes_part_of_a_page(admin: httpx.AsyncClient) -> None:
    made = await admin.post("/admin/users", data={"name": EVIL, "role": "admin", "password": PASSWORD})
    await admin.post("/admin/keys", data={"name": EVIL, "scope": "read"})
    pages = ["/admin/users", made.headers["location"], "/admin/keys", "/admin/keys/1/revoke"]
    for language in ("en", "ru"):
        admin.cookies.set("mailing_language", language)
        for path in [*pages, f"/admin/{EVIL}", "/admin/%25x%25"]:
            shown = (await admin.get(path)).text
            assert EVIL not in shown
            assert "style=" not in shown


async def test_a_key_is_shown_once_and_opens_the_api_until_it_is_revoked(
    admin: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    await run(engine, "DELETE FROM event")  # of making the user
    made = await key(admin, scope="full")
    assert made not in (await admin.get("/admin/keys")).text
    api = {"Authorization": f"Bearer {made}"}
    assert (await admin.get("/mailing/api/mailings/", headers=api)).status_code == 200
    assert "crm" in (await admin.get("/admin/keys/1/revoke")).text
    assert (await admin.post("/admin/keys/1/revoke")).status_code == 303
    assert (await admin.get("/mailing/api/mailings/", headers=api)).status_code == 401
    assert await value(engine, "SELECT array_agg(kind ORDER BY id) FROM event") == ["key.created", "key.revoked"]


async def test_a_key_that_may_only_read_changes_nothing(admin: httpx.AsyncClient) -> None:
    api = {"Authorization": f"Bearer {await key(admin, scope='read')}"}
    assert (await admin.get("/mailing/api/statistics/", headers=api)).status_code == 200
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        refused = await admin.request(method, "/mailing/api/clients/1/", headers=api)
        assert refused.status_code in (403, 405)
    created = await admin.post("/mailing/api/clients/", json={"phone": "79161234567"}, headers=api)
    assert created.status_code == 403
    assert "may only read" in created.json()["detail"]


@pytest.mark.parametrize("bad", [{"name": ""}, {"name": "x" * 101}, {"scope": "root"}])
async def test_a_key_needs_a_name_and_a_scope(admin: httpx.AsyncClient, bad: dict[str, str]) -> None:
    assert (await admin.post("/admin/keys", data={"name": "crm", "scope": "read"} | bad)).status_code == 400


async def test_what_does_not_exist_is_not_found(admin: httpx.AsyncClient) -> None:
    for path in ("/admin/users/77", "/admin/keys/77/revoke", "/admin/users/0", f"/admin/users/{2**63}"):
        assert (await admin.get(path)).status_code in (400, 404)
    for path in ("/admin/users/77/enable", "/admin/users/77/disable", "/admin/keys/77/revoke"):
        assert (await admin.post(path)).status_code == 404
