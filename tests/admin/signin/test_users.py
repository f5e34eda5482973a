import re

import pytest

from mailing.access import users
from mailing.access.roles import Role
from mailing.database.engine import transaction
from mailing.errors import Invalid
from support.admin import Browser
from support.database import Database
from support.users import PASSWORD


async def key(admin: Browser, *, scope: str) -> str:
    """Create an API key and return it, as the page shows it once."""
    answer = await admin.post("/admin/keys", data={"name": "crm", "scope": scope})
    assert answer.status_code == 201
    return str(re.findall(r"mk_[\w-]{43}", answer.text)[0])


async def test_an_admin_makes_a_user_and_changes_role_password_and_access(
    admin: Browser, stranger: Browser, db: Database
) -> None:
    made = await admin.post("/admin/users", data={"name": "boris", "role": "editor", "password": PASSWORD})
    page = made.headers["location"]
    assert "<h1><bdi>boris</bdi></h1>" in (await admin.get(page)).text
    assert (await admin.post(f"{page}/role", data={"role": "sender"})).status_code == 303
    assert (await admin.post(f"{page}/password", data={"password": "entirely new words"})).status_code == 303
    signing_in = {"name": "boris", "password": "entirely new words"}
    assert (await stranger.post("/admin/sign-in", data=signing_in)).status_code == 303
    assert "sender" in (await stranger.get("/admin/account")).text
    assert (await admin.post(f"{page}/disable")).status_code == 303
    assert (await stranger.get("/admin/account")).status_code == 303
    assert (await admin.post(f"{page}/enable")).status_code == 303
    assert (await stranger.post("/admin/sign-in", data=signing_in)).status_code == 303
    noted = await db.run("SELECT kind, actor FROM event WHERE actor LIKE '%(admin)' ORDER BY id")
    assert noted == [
        (f"user.{what}", "user 1 (admin)") for what in ("created", "role_set", "password_set", "disabled", "enabled")
    ]


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"name": ""}, "Name: must have 1 to 100"),
        ({"name": "Admin"}, "Name: is in use"),
        ({"role": "root"}, "Role: choose one of the roles"),
        ({"password": "short"}, "Password: must have 10 to 200"),
    ],
)
async def test_a_refused_user_is_shown_with_what_was_entered(
    admin: Browser, bad: dict[str, str], complaint: str
) -> None:
    answer = await admin.post("/admin/users", data={"name": "boris", "role": "editor", "password": PASSWORD} | bad)
    assert answer.status_code == 400
    assert answer.text.count(complaint) == 2, "in the summary and beside the field"
    assert PASSWORD not in answer.text


async def test_the_last_admin_can_not_be_locked_out(admin: Browser) -> None:
    for change, sent in (("role", {"role": "viewer"}), ("disable", {})):
        answer = await admin.post(f"/admin/users/1/{change}", data=sent)
        assert answer.status_code == 400
        assert "This is the last admin" in answer.text


async def test_a_key_is_shown_once_and_opens_the_api_until_it_is_revoked(admin: Browser, db: Database) -> None:
    await db.run("DELETE FROM event")  # of making the user
    made = await key(admin, scope="full")
    assert made not in (await admin.get("/admin/keys")).text
    api = {"Authorization": f"Bearer {made}"}
    assert (await admin.get("/mailing/api/mailings/", headers=api)).status_code == 200
    assert "crm" in (await admin.get("/admin/keys/1/revoke")).text
    assert (await admin.post("/admin/keys/1/revoke")).status_code == 303
    assert (await admin.get("/mailing/api/mailings/", headers=api)).status_code == 401
    assert await db.value("SELECT array_agg(kind ORDER BY id) FROM event") == ["key.created", "key.revoked"]


async def test_a_key_that_may_only_read_changes_nothing(admin: Browser) -> None:
    api = {"Authorization": f"Bearer {await key(admin, scope='read')}"}
    assert (await admin.get("/mailing/api/statistics/", headers=api)).status_code == 200
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        refused = await admin.request(method, "/mailing/api/clients/1/", headers=api)
        assert refused.status_code in (403, 405)
    created = await admin.post("/mailing/api/clients/", json={"phone": "79161234567"}, headers=api)
    assert created.status_code == 403
    assert "scope read" in created.json()["detail"]


@pytest.mark.parametrize("bad", [{"name": ""}, {"name": "x" * 101}, {"scope": "root"}])
async def test_a_key_needs_a_name_and_a_scope(admin: Browser, bad: dict[str, str]) -> None:
    assert (await admin.post("/admin/keys", data={"name": "crm", "scope": "read"} | bad)).status_code == 400


async def test_what_does_not_exist_is_not_found(admin: Browser) -> None:
    for path in ("/admin/users/77", "/admin/keys/77/revoke", "/admin/users/0", f"/admin/users/{2**63}"):
        assert (await admin.get(path)).status_code in (400, 404)
    for path in ("/admin/users/77/enable", "/admin/users/77/disable", "/admin/keys/77/revoke"):
        assert (await admin.post(path)).status_code == 404


KEYS_OF = "SELECT count(*) FROM api_key WHERE created_by = :user_id AND revoked_at IS NULL"


async def second_admin(admin: Browser, stranger: Browser, *, makes: int) -> str:
    """Signed in as `stranger`, with so many keys; returns the page about the user."""
    made = await admin.post("/admin/users", data={"name": "boris", "role": "admin", "password": PASSWORD})
    await stranger.post("/admin/sign-in", data={"name": "boris", "password": PASSWORD})
    for _ in range(makes):
        await key(stranger, scope="full")
    return str(made.headers["location"])


@pytest.mark.parametrize(
    ("change", "sent", "left", "told"),
    [
        ("disable", {}, 2, "2 API keys stay valid."),
        ("disable", {"revoke_keys": "yes"}, 0, "2 API keys are revoked."),
        ("role", {"role": "editor"}, 2, "2 API keys stay valid."),
        ("role", {"role": "editor", "revoke_keys": "yes"}, 0, "2 API keys are revoked."),
        ("role", {"role": "admin", "revoke_keys": "yes"}, 2, "2 API keys stay valid."),
    ],
)
async def test_whoever_disables_a_user_or_lowers_a_role_sees_the_keys_and_chooses(
    *, admin: Browser, stranger: Browser, db: Database, change: str, sent: dict[str, str], left: int, told: str
) -> None:
    page = await second_admin(admin, stranger, makes=2)
    user_id = int(page.rpartition("/")[2])
    await db.run("INSERT INTO api_key (name, hint, hash, scope) VALUES ('other', 'mk_', 'x', 'full')")
    shown = (await admin.get(page)).text
    assert shown.count('/revoke">Revoke') == 2
    assert "Revoke 2 API keys, too" in shown
    answer = await admin.post(f"{page}/{change}", data=sent)
    assert answer.status_code == 303
    assert told in (await admin.get(answer.headers["location"])).text
    assert await db.value(KEYS_OF, user_id=user_id) == left
    assert await db.value("SELECT count(*) FROM api_key WHERE revoked_at IS NULL") == left + 1
    noted = await db.value("SELECT detail FROM event WHERE kind IN ('user.disabled', 'user.role_set')")
    assert (noted["keys_revoked"], noted["keys_live"]) == (2 - left, left)
    assert await db.value("SELECT count(*) FROM event WHERE kind = 'key.revoked'") == 2 - left


async def test_a_revoked_key_of_a_disabled_user_opens_nothing_once_the_page_says_so(
    admin: Browser, stranger: Browser
) -> None:
    page = await second_admin(admin, stranger, makes=0)
    api = {"Authorization": f"Bearer {await key(stranger, scope='full')}"}
    assert (await stranger.get("/mailing/api/mailings/", headers=api)).status_code == 200
    await admin.post(f"{page}/disable", data={"revoke_keys": "yes"})
    assert (await stranger.get("/mailing/api/mailings/", headers=api)).status_code == 401


async def test_the_list_of_keys_says_who_made_them(admin: Browser, db: Database) -> None:
    await key(admin, scope="read")
    await db.run("INSERT INTO api_key (name, hint, hash, scope) VALUES ('other', 'mk_', 'x', 'full')")
    shown = (await admin.get("/admin/keys")).text
    assert '<td data-label="Created by"><bdi>admin</bdi></td>' in shown
    assert "the command line" in shown


async def test_every_way_to_a_password_asks_the_same(admin: Browser, db: Database) -> None:
    before = await db.value("SELECT password_hash FROM user_account")
    for path, sent in (
        ("/admin/users", {"name": "boris", "role": "viewer", "password": "Password123"}),
        ("/admin/users/1/password", {"password": "Password123"}),
    ):
        refused = await admin.post(path, data=sent)
        assert refused.status_code == 400
        assert "assword: is too common; use several random words" in refused.text
    made = await admin.post("/admin/users", data={"name": "boris", "role": "viewer", "password": PASSWORD})
    set_by_admin = f"{made.headers['location']}/password"
    refused = await admin.post(set_by_admin, data={"password": "boris-mailing-1"})
    assert refused.status_code == 400
    assert "must not consist of" in refused.text
    await admin.post("/admin/sign-in", data={"name": "boris", "password": PASSWORD})
    for weak, why in (("Password123", "too common"), ("boris-mailing-1", "name")):
        sent = {"old": PASSWORD, "password": weak, "again": weak}
        refused = await admin.post("/admin/account/password", data=sent)
        assert refused.status_code == 400
        assert why in refused.text
    async with transaction(db.sessions) as session:
        with pytest.raises(Invalid, match=r"password: .*too common"):
            await users.create(session, "clara", role=Role.VIEWER, password="Password123", by="tests")
    assert await db.value("SELECT password_hash FROM user_account WHERE id = 1") == before
