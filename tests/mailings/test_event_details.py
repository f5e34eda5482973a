"""Events of changes to mailings and clients, recorded in the transaction of the change."""

from datetime import UTC, datetime, timedelta

from mailing.access import api_keys
from support.answers import Json, json_of
from support.api import Api
from support.database import Database

TEXT = "a text that nobody finds in an event"


def body() -> Json:
    start = datetime.now(UTC) + timedelta(hours=1)
    return {"text": TEXT, "starts_at": start.isoformat(), "ends_at": (start + timedelta(hours=9)).isoformat()}


async def test_a_mailing_s_whole_life_is_told_with_the_name_of_the_key(db: Database, api: Api) -> None:
    key = await db.commit(api_keys.create, "crm", by="tests")
    await db.run("DELETE FROM event")  # of making the key
    api.headers["Authorization"] = f"Bearer {key}"
    mailing = json_of(await api.post("/mailings/", json=body()), 201)
    path = f"/mailings/{mailing['id']}"
    json_of(await api.patch(path, json={"starts_at": "2020-01-01T00:00:00Z"}))
    for action in ("pause", "pause", "resume", "resume", "cancel", "cancel"):
        json_of(await api.post(f"{path}/{action}"))
    await api.delete(path)
    found = await db.events()
    assert [kind.removeprefix("mailing.") for kind, *_ in found] == [
        *("created", "edited", "paused", "resumed", "cancelled", "deleted")
    ]
    assert {(actor, mailing_id) for _, actor, mailing_id, _ in found} == {("key 1 (crm)", mailing["id"])}


async def test_an_edit_tells_which_fields_differ_and_how_but_never_the_text(db: Database, api: Api) -> None:
    created = json_of(await api.post("/mailings/", json=body() | {"filter": {"tags": ["vip"]}}), 201)
    change: Json = {
        "text": f"{TEXT}, changed",
        "filter": {"operator_codes": ["916"]},
        "local_window": {"start": "09:00", "end": "21:00"},
        "ends_at": "2050-01-01T00:00:00Z",
    }
    json_of(await api.patch(f"/mailings/{created['id']}/", json=change))
    json_of(await api.patch(f"/mailings/{created['id']}/", json=change))
    (_, _, _, made), (_, _, _, edited) = await db.events()
    assert made == {name: created[name] for name in ("starts_at", "ends_at", "filter", "local_window")}
    assert edited == {
        "revision": 2,
        "fields": ["text", "ends_at", "filter", "local_window"],
        "old": {"ends_at": created["ends_at"], "filter": created["filter"], "local_window": None},
        "new": {
            "ends_at": "2050-01-01T00:00:00Z",
            "filter": {"tags": [], "operator_codes": ["916"]},
            "local_window": {"start": "09:00", "end": "21:00"},
        },
        "text_revision": 2,
    }
    assert await db.value("SELECT count(*) FROM event WHERE detail::text LIKE :text", text=f"%{TEXT}%") == 0


async def test_an_opt_out_and_an_opt_in_are_told_once(db: Database, api: Api) -> None:
    client_id = await db.add_client()
    for opted_out in (True, True, False, False):
        json_of(await api.patch(f"/clients/{client_id}/", json={"opted_out": opted_out}))
    found = await db.run("SELECT kind, actor, client_id, detail FROM event ORDER BY id")
    assert found == [
        ("client.opted_out", "MAILING_API_KEY", client_id, {"stopped": 0}),
        ("client.opted_in", "MAILING_API_KEY", client_id, {}),
    ]


async def test_what_is_refused_is_not_told(db: Database, api: Api) -> None:
    mailing_id = await db.add_mailing(status="cancelled")
    for action in ("pause", "resume", "resend-failed"):
        json_of(await api.post(f"/mailings/{mailing_id}/{action}"), 409)
    json_of(await api.patch(f"/mailings/{mailing_id}/", json={"text": "x"}), 409)
    assert await db.events() == []
