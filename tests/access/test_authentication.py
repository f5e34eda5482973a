import asyncio

import pytest
from sqlalchemy import event
from sqlalchemy.util import await_only

from mailing.access import lockout, passwords, users
from mailing.access.authentication import (
    BrowserInfo,
    Identity,
    change_password,
    sign_in,
    sign_in_as,
    sign_out,
    sign_out_everywhere,
)
from mailing.access.roles import Role
from mailing.access.sessions import User
from mailing.errors import TooMany, Unauthorized
from support.database import LOCK_WAITS, Database
from support.processes import until
from support.users import PASSWORD, PASSWORD_HASH, made, who

HERE = BrowserInfo("192.0.2.1", "a browser")
WRONG = "not this one, surely"


@pytest.fixture(autouse=True)
def _quick_dummy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is verified for a name nobody has, as quick as a user's hash here."""
    monkeypatch.setattr(passwords, "_DUMMY_HASH", PASSWORD_HASH)


async def attempt(db: Database, name: str = "anna", password: str = WRONG, *, browser: BrowserInfo = HERE) -> str:
    """Return the result of a sign-in as one word."""
    try:
        await sign_in(db.sessions, name, password, browser=browser)
    except Unauthorized:
        return "wrong"
    except TooMany:
        return "locked"
    return "in"


async def fail_until_locked(db: Database, name: str = "anna") -> None:
    for _ in range(lockout.MAX_ACCOUNT_TRIES):
        assert await attempt(db, name) == "wrong"


async def later(db: Database, seconds: int) -> None:
    """As if that much time had gone by."""
    moved = "failed_at = failed_at - :s * interval '1 s', locked_until = locked_until - :s * interval '1 s'"
    await db.run(f"UPDATE login_throttle SET {moved}", s=seconds)


async def test_a_name_and_its_password_open_a_session(db: Database) -> None:
    anna = await made(db)
    await db.run("DELETE FROM event")  # of making the user
    token = await sign_in(db.sessions, "Anna", PASSWORD, browser=HERE)
    assert await who(db, token) == User(anna, "anna", Role.ADMIN)
    [signed_in] = await db.run("SELECT kind, actor, detail FROM event")
    assert tuple(signed_in) == ("user.signed_in", f"user {anna} (anna)", {"address": "192.0.2.1"})


@pytest.mark.parametrize("name", ["boris", "", "anna\x00", "\udce9", "a" * 10_000])
async def test_a_name_nobody_has_is_answered_like_a_wrong_password(db: Database, name: str) -> None:
    anna = await made(db)
    with pytest.raises(Unauthorized) as unknown:
        await sign_in(db.sessions, name, PASSWORD, browser=HERE)
    with pytest.raises(Unauthorized) as wrong:
        await sign_in(db.sessions, "anna", WRONG, browser=HERE)
    assert str(unknown.value) == str(wrong.value)
    failed = await db.run("SELECT actor FROM event WHERE kind = 'user.sign_in_failed' ORDER BY id")
    assert failed == [("somebody",), (f"user {anna} (anna)",)]


async def test_what_was_typed_as_a_name_is_kept_nowhere(db: Database) -> None:
    await attempt(db, "hunter2-typed-in-the-wrong-field")
    kept = await db.run("SELECT e::text FROM event e UNION ALL SELECT t::text FROM login_throttle t")
    assert "hunter2" not in str(kept)
    assert await db.kinds() == ["user.sign_in_failed"]


async def test_a_disabled_user_and_one_of_the_provider_have_no_password(db: Database) -> None:
    await made(db)
    boris = await made(db, "boris")
    await db.commit(users.disable, boris, by="tests")
    await sign_in_as(db.sessions, Identity("https://id.example", "7", "clara", Role.VIEWER), browser=HERE)
    assert [await attempt(db, name, PASSWORD) for name in ("boris", "clara")] == ["wrong", "wrong"]


@pytest.mark.parametrize("name", ["anna", "nobody"])
async def test_an_account_is_locked_after_a_few_tries_whether_it_exists_or_not(db: Database, name: str) -> None:
    await made(db)
    await fail_until_locked(db, name)
    assert [await attempt(db, name) for _ in range(2)] == ["locked"] * 2
    assert (await db.kinds()).count("user.locked_out") == 1
    assert await attempt(db, name, PASSWORD) == "locked"


async def test_another_account_at_the_same_address_is_not_locked(db: Database) -> None:
    await made(db)
    await fail_until_locked(db, "boris")
    assert await attempt(db, "anna", PASSWORD) == "in"


async def test_a_lock_ends_by_itself_and_the_next_one_lasts_longer(db: Database) -> None:
    await made(db)
    await fail_until_locked(db)
    lasting = []
    for _ in range(8):
        with pytest.raises(TooMany) as refused:
            await sign_in(db.sessions, "anna", PASSWORD, browser=BrowserInfo("198.51.100.7", ""))
        lasting.append(refused.value.wait_s)
        await later(db, lockout.MAX_LOCK_S)
        assert await attempt(db) == "wrong"
    assert lasting == [30, 60, 120, 240, 480, 900, 900, 900]
    await later(db, lockout.MAX_LOCK_S)
    assert await attempt(db, "anna", PASSWORD) == "in"
    await fail_until_locked(db)


async def test_an_address_is_locked_after_more_tries_on_whatever_accounts(db: Database) -> None:
    """Also if one of them is its own, and good."""
    await made(db)
    for number in range(lockout.MAX_ADDRESS_TRIES):
        assert await attempt(db, f"user{number}") == "wrong"
        if number < lockout.MAX_ADDRESS_TRIES - 1:
            assert await attempt(db, "anna", PASSWORD) == "in"
    assert await attempt(db, "anna", PASSWORD) == "locked"
    assert await attempt(db, "anna", PASSWORD, browser=BrowserInfo("192.0.2.2", "")) == "in"


async def test_the_addresses_of_one_ipv6_network_count_together(db: Database) -> None:
    tries = [await attempt(db, f"user{n}", browser=BrowserInfo(f"2001:db8::{n:x}", "")) for n in range(1, 22)]
    assert tries == ["wrong"] * lockout.MAX_ADDRESS_TRIES + ["locked"]
    assert await attempt(db, "anybody", browser=BrowserInfo("2001:db8:0:1::1", "")) == "wrong"


async def test_many_tries_at_once_get_no_further_than_one_after_another(db: Database) -> None:
    await made(db)
    tries = await asyncio.gather(*(attempt(db) for _ in range(12)))
    assert sorted(tries) == ["locked"] * (12 - lockout.MAX_ACCOUNT_TRIES) + ["wrong"] * lockout.MAX_ACCOUNT_TRIES


async def test_what_is_a_day_old_is_forgotten(db: Database) -> None:
    await made(db)
    await fail_until_locked(db)
    await later(db, 86_500)
    assert await attempt(db, "boris") == "wrong"
    assert await db.value("SELECT max(failures) FROM login_throttle") == 1


async def test_an_admin_unlocks_an_account_with_a_new_password(db: Database) -> None:
    anna = await made(db)
    await fail_until_locked(db)
    await db.commit(users.set_password, anna, password_hash=PASSWORD_HASH, by="tests")
    assert await attempt(db, "anna", PASSWORD) == "in"


@pytest.mark.parametrize("way", ["sign in", "change the password"])
async def test_a_password_that_an_admin_sets_meanwhile_ends_what_the_old_one_opens(db: Database, way: str) -> None:
    anna = await made(db)
    others = f"{PASSWORD_HASH}x"
    resets: list[asyncio.Task[None]] = []

    async def is_reset_or_waits() -> bool:
        return resets[0].done() or await db.value(LOCK_WAITS) == 1

    def reset(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        """Begin it when the old password is verified, and before that has an effect."""
        if not resets and ("UPDATE user_account" in statement or "INSERT INTO user_session" in statement):
            setting = db.commit(users.set_password, anna, password_hash=others, by="tests")
            resets.append(asyncio.ensure_future(setting))
            await_only(until(is_reset_or_waits))

    listener = (db.engine.sync_engine, "before_cursor_execute", reset)
    event.listen(*listener)
    try:
        if way == "sign in":
            token = await sign_in(db.sessions, "anna", PASSWORD, browser=HERE)
        else:
            user = User(anna, "anna", Role.ADMIN)
            token = await change_password(db.sessions, user, PASSWORD, new="entirely new words", browser=HERE)
        await resets[0]
    finally:
        event.remove(*listener)
    assert await who(db, token) is None
    assert await db.value("SELECT password_hash FROM user_account") == others


async def test_signing_out_ends_one_session_or_all(db: Database) -> None:
    anna = User(await made(db), "anna", Role.ADMIN)
    tokens = [await sign_in(db.sessions, "anna", PASSWORD, browser=HERE) for _ in range(3)]
    await db.commit(sign_out, anna, tokens[0])
    assert [await who(db, token) for token in tokens] == [None, anna, anna]
    await db.commit(sign_out_everywhere, anna)
    assert [await who(db, token) for token in tokens] == [None, None, None]
    assert (await db.kinds())[-2:] == ["user.signed_out", "user.signed_out_everywhere"]


async def test_the_provider_s_user_is_one_account_with_the_provider_s_name_and_role(db: Database) -> None:
    first = await sign_in_as(db.sessions, Identity("https://id.example", "7", "clara", Role.VIEWER), browser=HERE)
    second = await sign_in_as(db.sessions, Identity("https://id.example", "7", "Clara B", Role.SENDER), browser=HERE)
    user = await who(db, second)
    assert user is not None
    assert (user.name, user.role) == ("Clara B", Role.SENDER)
    assert await who(db, first) == user
    other = await sign_in_as(db.sessions, Identity("https://other.example", "7", "clara", Role.VIEWER), browser=HERE)
    assert await who(db, other) != user


async def test_a_provider_s_user_who_is_disabled_here_stays_out(db: Database) -> None:
    await made(db)
    clara = Identity("https://id.example", "7", "clara", Role.ADMIN)
    user = await who(db, await sign_in_as(db.sessions, clara, browser=HERE))
    assert user is not None
    await db.commit(users.disable, user.id, by="tests")
    with pytest.raises(Unauthorized, match="disabled"):
        await sign_in_as(db.sessions, clara, browser=HERE)
