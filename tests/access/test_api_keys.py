import asyncio
import hashlib
from contextlib import aclosing

import pytest
from msgspec import structs

from mailing.access import api_keys
from mailing.database.read_pool import ReadPool
from mailing.errors import NotFound
from mailing.settings import Settings
from support.api import KEY, Api, running_api
from support.database import Database


async def made(db: Database, name: str = "shop") -> str:
    return await db.commit(api_keys.create, name, by="tests")


async def listed(db: Database) -> list[api_keys.ApiKey]:
    return await db.commit(api_keys.all_keys)


async def revoked(db: Database, key_id: int) -> None:
    await api_keys.revoke(db.sessions, key_id, by="tests")


async def status_with(api: Api, authorization: bytes) -> int:
    answer = await api.get("/mailings/", headers={b"Authorization": authorization})
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    return answer.status_code


async def test_no_process_lets_a_key_in_once_revoking_has_returned_however_often_it_was_used(
    settings: Settings, db: Database
) -> None:
    given = f"Bearer {await made(db)}".encode()
    async with running_api(settings) as one, running_api(settings) as other:
        assert [await status_with(api, given) for api in (one, other)] == [200, 200]
        revoking = asyncio.create_task(revoked(db, 1))
        while not revoking.done():
            await asyncio.gather(status_with(one, given), status_with(other, given))
        assert [await status_with(api, given) for api in (one, other)] == [401, 401]


async def test_a_change_by_hand_in_the_table_counts_within_the_time_that_a_key_is_believed(
    api: Api, db: Database
) -> None:
    read, gone = await made(db), await made(db)
    assert [await status_with(api, f"Bearer {key}".encode()) for key in (read, gone)] == [200, 200]
    await db.run("UPDATE api_key SET scope = 'read' WHERE id = 1")
    await db.run("UPDATE api_key SET revoked_at = now() WHERE id = 2")
    await asyncio.sleep(api_keys.CACHE_TTL_S)
    assert await status_with(api, f"Bearer {gone}".encode()) == 401
    assert (await api.post("/mailings/", headers={"Authorization": f"Bearer {read}"})).status_code == 403


async def test_a_key_is_looked_up_once_for_many_requests(db: Database) -> None:
    key = await made(db)
    async with aclosing(ReadPool(db.engine)) as reads:
        known = api_keys.KeyCache(reads)
        found = await known.find(key)
        assert found
        assert found.caller == "key 1 (shop)"
        assert await known.find(key) is found


async def test_wrong_keys_are_not_remembered_and_of_right_ones_no_more_than_a_bounded_number(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "MAX_CACHED", 3)
    async with aclosing(ReadPool(db.engine)) as reads:
        known = api_keys.KeyCache(reads)
        for number in range(10):
            assert await known.find(f"mk_{number}") is None
        assert len(known) == 0
        counts = set()
        for _ in range(5):
            assert await known.find(await made(db)) is not None
            counts.add(len(known))
        assert max(counts) == 3


async def test_keys_are_listed_by_name_and_beginning_without_the_rest(db: Database) -> None:
    created = [await made(db, name) for name in ("shop", "crm")]
    found = await listed(db)
    assert [(key.name, key.hint, key.revoked_at) for key in found] == [
        ("shop", created[0][:8], None),
        ("crm", created[1][:8], None),
    ]
    assert len({*created}) == 2


async def test_revoking_twice_keeps_the_first_moment_and_touches_no_other_key(db: Database) -> None:
    await made(db)
    await made(db)
    await revoked(db, 1)
    first, other = await listed(db)
    assert first.revoked_at is not None
    await revoked(db, 1)
    assert await listed(db) == [first, other]
    assert other.revoked_at is None


async def test_revoking_a_key_that_never_was_says_how_to_find_the_right_one(db: Database) -> None:
    with pytest.raises(NotFound, match="mailing key list"):
        await revoked(db, 7)


async def test_at_rest_there_is_a_hash_and_nowhere_the_key(db: Database) -> None:
    key = await made(db)
    secret = key.removeprefix("mk_")
    assert await db.value("SELECT hash FROM api_key") == hashlib.sha256(key.encode()).digest()
    kept = str(await db.run("SELECT k::text, encode(convert_to(k::text, 'UTF8'), 'hex') FROM api_key k"))
    assert secret not in kept
    assert secret.encode().hex() not in kept
    assert secret[5:] not in kept, "the hint is the beginning alone"


REFUSED = [
    *("", "Bearer", "Bearer ", "Bearer  ", KEY),
    *(f"Basic {KEY}", f"Token {KEY}", f"Bearer{KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Bearer {KEY.upper()}"),
    *("Bearer mk_unknown", "Bearer \u043a\u043b\u044e\u0447", f"Bearer {'x' * 10_000}"),
]


@pytest.mark.parametrize("given", ["Bearer {}", "bearer {}", "BEARER   {}", "Bearer\t{}", " Bearer \t {} \t"])
async def test_the_case_of_the_scheme_and_blanks_around_a_key_do_not_matter(api: Api, given: str) -> None:
    assert await status_with(api, given.format(KEY).encode()) == 200


async def test_any_other_authorization_is_refused(api: Api) -> None:
    assert [given for given in REFUSED if await status_with(api, given.encode()) != 401] == []
    assert await status_with(api, b"Bearer \xff\xfe\x80") == 401


async def test_without_the_header_the_answer_says_what_to_send(api: Api) -> None:
    del api.headers["Authorization"]
    answer = await api.get("/mailings/")
    assert answer.status_code == 401
    assert "Authorization: Bearer" in answer.json()["detail"]


async def test_without_a_configured_key_only_created_ones_open_the_api(db: Database, settings: Settings) -> None:
    async with running_api(structs.replace(settings, api_key=None)) as api:
        assert await status_with(api, f"Bearer {KEY}".encode()) == 401
        assert await status_with(api, f"Bearer {await made(db)}".encode()) == 200


async def test_no_answer_repeats_the_key(api: Api) -> None:
    answer = await api.get("/mailings/", headers={"Authorization": "Bearer s3cret-s3cret"})
    assert "s3cret" not in answer.text + str(answer.headers)
