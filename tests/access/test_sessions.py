import hashlib

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.access import sessions as signed
from mailing.database.engine import Sessions, transaction
from support.rows import run, value
from support.users import made, signed_in, who


async def test_a_token_leads_to_its_user_until_it_is_closed(sessions: Sessions) -> None:
    anna = await made(sessions)
    first, second = await signed_in(sessions, anna), await signed_in(sessions, anna)
    async with transaction(sessions) as session:
        await signed.close(session, first)
    assert await who(sessions, first) is None
    user = await who(sessions, second)
    assert user is not None
    assert (user.id, user.name) == (anna, "anna")


@pytest.mark.parametrize("token", ["", "x", "\udce9", "a" * 10_000, "nul\x00"])
async def test_a_token_nobody_issued_is_nobody(sessions: Sessions, token: str) -> None:
    await signed_in(sessions, await made(sessions))
    assert await who(sessions, token) is None


async def test_at_rest_there_is_a_hash_and_nowhere_the_token(sessions: Sessions, engine: AsyncEngine) -> None:
    token = await signed_in(sessions, await made(sessions))
    assert await value(engine, "SELECT hash FROM user_session") == hashlib.sha256(token.encode()).digest()
    assert token not in str(await run(engine, "SELECT s::text FROM user_session s"))


@pytest.mark.parametrize(
    "limit", ["last_seen_at = now() - interval '61 minutes'", "created_at = now() - interval '12 hours'"]
)
async def test_a_session_ends_by_itself(sessions: Sessions, engine: AsyncEngine, limit: str) -> None:
    token = await signed_in(sessions, await made(sessions))
    await run(engine, f"UPDATE user_session SET {limit}")
    assert await who(sessions, token) is None


async def test_use_keeps_a_session_open_and_is_written_once_a_minute(sessions: Sessions, engine: AsyncEngine) -> None:
    token = await signed_in(sessions, await made(sessions))
    seen = await value(engine, "SELECT last_seen_at FROM user_session")
    await who(sessions, token)
    assert await value(engine, "SELECT last_seen_at FROM user_session") == seen
    await run(engine, "UPDATE user_session SET last_seen_at = now() - interval '59 minutes'")
    assert await who(sessions, token) is not None
    assert await value(engine, "SELECT last_seen_at FROM user_session") > seen


async def test_a_user_sees_and_ends_own_sessions_only(sessions: Sessions) -> None:
    anna, boris = await made(sessions), await made(sessions, "boris")
    here, there, elsewhere = [await signed_in(sessions, user) for user in (anna, anna, boris)]
    async with transaction(sessions) as session:
        listed = await signed.open_sessions(session, anna, token=here)
        assert sorted(each.current for each in listed) == [False, True]
        [foreign] = await signed.open_sessions(session, boris, token=here)
        await signed.close_one(session, anna, foreign.id)
        await signed.close_one(session, anna, next(each.id for each in listed if not each.current))
    assert [await who(sessions, token) is not None for token in (here, there, elsewhere)] == [True, False, True]


async def test_what_is_long_over_is_forgotten_with_the_next_sign_in(sessions: Sessions, engine: AsyncEngine) -> None:
    anna = await made(sessions)
    await signed_in(sessions, anna)
    await run(engine, "UPDATE user_session SET last_seen_at = now() - interval '2 hours'")
    await signed_in(sessions, anna)
    assert await value(engine, "SELECT count(*) FROM user_session") == 1


async def test_what_a_browser_says_of_itself_is_cut_and_made_readable(sessions: Sessions, engine: AsyncEngine) -> None:
    anna = await made(sessions)
    async with transaction(sessions) as session:
        await signed.open_session(session, anna, address="::1", agent="\x00\n" + "x" * 10_000)
    assert await value(engine, "SELECT user_agent FROM user_session") == "x" * 200
