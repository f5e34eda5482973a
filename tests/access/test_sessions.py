import hashlib

import pytest

from mailing.access import sessions as signed
from mailing.database.engine import transaction
from support.database import Database
from support.users import made, signed_in, who


async def test_a_token_leads_to_its_user_until_it_is_closed(db: Database) -> None:
    anna = await made(db)
    first, second = await signed_in(db, anna), await signed_in(db, anna)
    await db.commit(signed.close, first)
    assert await who(db, first) is None
    user = await who(db, second)
    assert user is not None
    assert (user.id, user.name) == (anna, "anna")


@pytest.mark.parametrize("token", ["", "x", "\udce9", "a" * 10_000, "nul\x00"])
async def test_a_token_nobody_issued_is_nobody(db: Database, token: str) -> None:
    await signed_in(db, await made(db))
    assert await who(db, token) is None


async def test_at_rest_there_is_a_hash_and_nowhere_the_token(db: Database) -> None:
    token = await signed_in(db, await made(db))
    assert await db.value("SELECT hash FROM user_session") == hashlib.sha256(token.encode()).digest()
    assert token not in str(await db.run("SELECT s::text FROM user_session s"))


@pytest.mark.parametrize(
    "limit", ["last_seen_at = now() - interval '61 minutes'", "created_at = now() - interval '12 hours'"]
)
async def test_a_session_ends_by_itself(db: Database, limit: str) -> None:
    token = await signed_in(db, await made(db))
    await db.run(f"UPDATE user_session SET {limit}")
    assert await who(db, token) is None


async def test_use_keeps_a_session_open_and_is_written_once_a_minute(db: Database) -> None:
    anna = await made(db)
    token, _ = [await signed_in(db, anna) for _ in range(2)]
    seen = await db.run("SELECT last_seen_at FROM user_session ORDER BY id")
    await who(db, token)
    assert await db.run("SELECT last_seen_at FROM user_session ORDER BY id") == seen
    await db.run("UPDATE user_session SET last_seen_at = now() - interval '59 minutes'")
    assert await who(db, token) is not None
    used, unused = await db.run("SELECT last_seen_at FROM user_session ORDER BY id")
    assert unused < seen[0] < used


async def test_a_user_sees_and_ends_own_sessions_only(db: Database) -> None:
    anna, boris = await made(db), await made(db, "boris")
    here, there, elsewhere = [await signed_in(db, user) for user in (anna, anna, boris)]
    async with transaction(db.sessions) as session:
        listed = await signed.open_sessions(session, anna, token=here)
        assert sorted(each.current for each in listed) == [False, True]
        [foreign] = await signed.open_sessions(session, boris, token=here)
        await signed.close_one(session, anna, foreign.id)
        await signed.close_one(session, anna, next(each.id for each in listed if not each.current))
    assert [await who(db, token) is not None for token in (here, there, elsewhere)] == [True, False, True]


async def test_what_is_long_over_is_forgotten_with_the_next_sign_in(db: Database) -> None:
    anna = await made(db)
    await signed_in(db, anna)
    await db.run("UPDATE user_session SET last_seen_at = now() - interval '2 hours'")
    await signed_in(db, anna)
    assert await db.value("SELECT count(*) FROM user_session") == 1


async def test_what_a_browser_says_of_itself_is_cut_and_made_readable(db: Database) -> None:
    anna = await made(db)
    await db.commit(signed.open_session, anna, address="::1", agent="\x00\n" + "x" * 10_000)
    assert await db.value("SELECT user_agent FROM user_session") == "x" * 200
