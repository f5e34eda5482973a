import asyncio

import pytest

from mailing.access import api_keys, users
from mailing.access.passwords import matches
from mailing.access.roles import Role
from mailing.access.sessions import User
from mailing.database.engine import transaction
from mailing.errors import Conflict, Forbidden, Invalid, NotFound
from support.database import Database
from support.query_plans import executed
from support.users import PASSWORD, PASSWORD_HASH, made, signed_in, who


async def created(db: Database, name: str = "anna") -> int:
    return await db.commit(users.create, name, role=Role.ADMIN, password=PASSWORD, by="tests")


async def test_a_user_is_listed_with_the_role_and_without_the_password(db: Database) -> None:
    user_id = await created(db)
    [anna] = await db.commit(users.all_users)
    assert (anna.id, anna.name, anna.role, anna.disabled_at) == (user_id, "anna", Role.ADMIN, None)
    kept = str(await db.run("SELECT u::text FROM user_account u"))
    assert PASSWORD not in kept
    assert "$argon2id$" in kept


async def test_a_name_is_one_persons_however_it_is_written(db: Database) -> None:
    await created(db)
    with pytest.raises(Conflict) as taken:
        await created(db, "ANNA")
    assert [error.field for error in taken.value.errors] == ["name"]


async def test_a_name_finds_the_user_with_a_password(db: Database) -> None:
    await db.run(
        "INSERT INTO user_account (name, role, issuer, subject) VALUES ('anna', 'viewer', 'https://id.example', '7')"
    )
    anna = await created(db)
    assert (await db.commit(users.by_name, "Anna")).id == anna


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "an\nna", "an\x00na"])
async def test_a_name_must_be_readable(db: Database, name: str) -> None:
    with pytest.raises(Invalid, match="name"):
        await created(db, name)


@pytest.mark.parametrize("password", ["", "short", "x" * 201, "abcabcabcabc", " a blank before", "with a\nnew line"])
async def test_a_password_nobody_should_have_is_refused(db: Database, password: str) -> None:
    async with transaction(db.sessions) as session:
        with pytest.raises(Invalid, match="password") as refused:
            await users.create(session, "anna", role=Role.VIEWER, password=password, by="tests")
    assert not password or password not in str(refused.value)


async def test_a_password_is_hashed_before_the_first_statement(db: Database) -> None:
    """While many wait for their hash, the database ends a transaction that stands idle."""
    with executed(db.engine.sync_engine) as ran, pytest.raises(Invalid, match="too common"):
        await db.commit(users.create, "boris", role=Role.VIEWER, password="Password123", by="tests")
    assert ran == []


async def test_a_password_is_checked_with_a_hash_and_without_one(db: Database) -> None:
    await created(db)
    kept = await db.value("SELECT password_hash FROM user_account")
    assert await matches(PASSWORD, kept)
    assert not await matches("another one entirely", kept)
    assert not await matches(PASSWORD, None)
    assert not await matches(PASSWORD, "no hash at all")


async def test_a_new_password_and_disabling_end_every_session(db: Database) -> None:
    await made(db)
    boris = await made(db, "boris", Role.EDITOR)
    for change in ("password", "disable"):
        token = await signed_in(db, boris)
        assert await who(db, token) == User(boris, "boris", Role.EDITOR)
        async with transaction(db.sessions) as session:
            if change == "password":
                await users.set_password(session, boris, password_hash=PASSWORD_HASH, by="tests")
            else:
                await users.disable(session, boris, by="tests")
        assert await who(db, token) is None


async def test_a_new_role_counts_from_the_next_request(db: Database) -> None:
    await made(db)
    boris = await made(db, "boris", Role.SENDER)
    token = await signed_in(db, boris)
    await db.commit(users.set_role, boris, Role.VIEWER, by="tests")
    assert await who(db, token) == User(boris, "boris", Role.VIEWER)


async def test_of_two_admins_who_disable_each_other_one_stays(db: Database) -> None:
    pair = [await made(db, name) for name in ("anna", "boris")]

    async def disabled(user_id: int) -> bool:
        try:
            await db.commit(users.disable, user_id, by="tests")
        except Conflict:
            return False
        return True

    assert sorted(await asyncio.gather(*map(disabled, pair))) == [False, True]


async def test_nobody_is_changed_who_does_not_exist(db: Database) -> None:
    async with transaction(db.sessions) as session:
        for change in (
            users.disable(session, 7, by="tests"),
            users.enable(session, 7, by="tests"),
            users.set_role(session, 7, Role.VIEWER, by="tests"),
        ):
            with pytest.raises(NotFound, match="mailing user list"):
                await change
        with pytest.raises(NotFound):
            await users.set_password(session, 7, password_hash=PASSWORD_HASH, by="tests")
        with pytest.raises(NotFound):
            await users.by_name(session, "nobody")


async def test_who_is_disabled_makes_no_key_at_the_same_moment(db: Database) -> None:
    """Either the key is there in time to be revoked, or it is not made."""
    await made(db)
    boris = await made(db, "boris")

    async def make(number: int) -> None:
        await db.commit(api_keys.create, f"key {number}", by="tests", user_id=boris)

    async def disable() -> None:
        await db.commit(users.disable, boris, by="tests", revoke_keys=True)

    tried = await asyncio.gather(make(1), make(2), disable(), make(3), make(4), return_exceptions=True)
    assert all(result is None or isinstance(result, Forbidden) for result in tried)
    with pytest.raises(Forbidden, match="no longer create keys"):
        await make(5)
    assert await db.value("SELECT count(*) FROM api_key WHERE revoked_at IS NULL") == 0
