from datetime import datetime, timedelta

from mailing.messages.states import MessageStatus
from mailing.web.parameters import MAX_ID
from support.answers import Json, json_of
from support.api import Api
from support.database import Database

HOUR = "interval '1 h'"
ATTEMPT = (
    *("number", "started_at", "duration_ms", "outcome", "http_status", "code", "reason", "reason_code", "provider_id"),
)


async def story(api: Api, message_id: int) -> Json:
    return json_of(await api.get(f"/messages/{message_id}/"))


async def change(db: Database, message_id: int, columns: str) -> None:
    await db.run(f"UPDATE message SET {columns} WHERE id = :id", id=message_id)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_a_message_is_told_with_its_attempts_in_order(db: Database, api: Api) -> None:
    client_id, mailing_id = await db.add_client(), await db.add_mailing(text="Sale")
    (message_id,) = await db.add_messages(mailing_id, ["sent"], first_client=client_id)
    await change(db, message_id, "counted_attempts = 2, claim_no = 3, finished_at = '2026-05-01T10:00:03Z'")
    await db.run(
        """INSERT INTO attempt
            (message_id, mailing_id, number, started_at, duration_ms, outcome, http_status, code, reason_code,
             reason_params, provider_id) VALUES
        (:id, 1, 3, '2026-05-01T10:00:02Z', 85, 'accepted', 200, 0, NULL, NULL, 'SM42'),
        (:id, 1, 1, '2026-05-01T10:00:00Z', NULL, 'ambiguous', NULL, NULL, 'worker_lost', NULL, NULL),
        (:id, 1, 2, '2026-05-01T10:00:01Z', 12, 'throttled', 429, NULL, 'http_status', '{"http_status" : 429}', NULL),
        (:id + 1, 1, 1, '2026-05-01T10:00:01Z', 12, 'refused', 400, NULL, 'not_json', NULL, NULL)""",
        id=message_id,
    )
    at = "2026-05-01T10:00"
    attempts = [
        (1, f"{at}:00Z", None, "ambiguous", None, None, "the worker was lost during the call", "worker_lost", None),
        (2, f"{at}:01Z", 12, "throttled", 429, None, "HTTP 429", "http_status", None),
        (3, f"{at}:02Z", 85, "accepted", 200, 0, "", None, "SM42"),
    ]
    found = await story(api, message_id)
    due_at = found.pop("due_at")
    assert moment(due_at).tzinfo is not None
    assert found == {
        "id": message_id,
        "mailing_id": mailing_id,
        "client_id": client_id,
        "phone": "79160000000",
        "status": "sent",
        "attempts": 2,
        "sent_at": "2026-05-01T10:00:03Z",
        "waiting_for": None,
        "status_reason": None,
        "reason_code": None,
        "receipt": None,
        "text": "Sale",
        "test": False,
        "resolutions": [],
        "history": [dict(zip(ATTEMPT, each, strict=True)) for each in attempts],
    }


IN_AN_HOUR, AN_HOUR_AGO = f"now() + {HOUR}", f"now() - {HOUR}"

# The columns of an unsent message of a running mailing, why it waits, and whether it is known until when.
OPENS = f"due_at = {IN_AN_HOUR}, closes_at = now() + 2 * {HOUR}, "
WAITS = [
    (OPENS + "wait_reason = 'window'", "window", True),
    (OPENS + "wait_reason = NULL", "window", True),
    (f"due_at = {AN_HOUR_AGO}, closes_at = {AN_HOUR_AGO} + interval '1 s'", "window", False),
    (f"due_at = {AN_HOUR_AGO}, closes_at = '-infinity', wait_reason = 'retry'", "window", False),
    (OPENS + "wait_reason = 'retry', counted_attempts = 1", "retry", True),
    (OPENS + "wait_reason = 'rate'", "rate", True),
    (OPENS + "wait_reason = 'breaker'", "breaker", True),
    (f"due_at = {AN_HOUR_AGO}, closes_at = {IN_AN_HOUR}, wait_reason = NULL", "rate", False),
    (f"due_at = {AN_HOUR_AGO}, closes_at = {IN_AN_HOUR}, wait_reason = 'retry'", "rate", False),
]


async def test_an_unsent_message_says_what_it_waits_for_and_until_when(db: Database, api: Api) -> None:
    ids = await db.add_messages(await db.add_mailing(), ["pending"] * len(WAITS))
    for message_id, (columns, reason, known) in zip(ids, WAITS, strict=True):
        await change(db, message_id, columns)
        found = await story(api, message_id)
        until = found["due_at"] if known else None
        assert found["waiting_for"] == {"reason": reason, "until": until}, columns
        assert found["sent_at"] is None


async def test_in_a_paused_mailing_everything_unsent_waits_for_the_resume(db: Database, api: Api) -> None:
    ids = await db.add_messages(await db.add_mailing(status="paused"), ["pending"] * len(WAITS))
    for message_id, (columns, _, _) in zip(ids, WAITS, strict=True):
        await change(db, message_id, columns)
        assert (await story(api, message_id))["waiting_for"] == {"reason": "pause", "until": None}


async def test_what_does_not_wait_says_nothing_of_waiting_and_only_what_was_sent_has_its_time(
    db: Database, api: Api
) -> None:
    statuses = [status for status in MessageStatus if status is not MessageStatus.pending]
    for mailing_status in ("running", "paused", "finished"):
        mailing_id = await db.add_mailing(status=mailing_status)
        for message_id, status in zip(await db.add_messages(mailing_id, statuses), statuses, strict=True):
            found = await story(api, message_id)
            assert (found["status"], found["waiting_for"]) == (status, None)
            assert (found["sent_at"] is not None) == (status is MessageStatus.sent)


async def test_an_opening_that_has_been_voided_can_still_be_read(db: Database, api: Api) -> None:
    mailing_id, (message_id,) = await db.add_mailing_of(["pending"])
    await change(db, message_id, "closes_at = '-infinity'")
    assert (await story(api, message_id))["waiting_for"] == {"reason": "window", "until": None}
    assert (await api.get(f"/statistics/{mailing_id}/")).json()["messages"]["items"][0]["id"] == message_id


async def test_a_message_shows_the_text_it_went_out_with_and_before_that_the_newest(db: Database, api: Api) -> None:
    mailing_id = await db.add_mailing(text="first")
    statuses = ["sent", "sending", "unknown", "pending", "pending", "pending"]
    ids = await db.add_messages(mailing_id, statuses)
    called = "counted_attempts = 1, claim_no = 1, phone = '79160000000', text_revision = 1"
    await change(db, ids[4], called)
    await change(db, ids[5], f"{called}, maybe_accepted = true")
    assert (await api.patch(f"/mailings/{mailing_id}/", json={"text": "second"})).status_code == 200
    shown = [(await story(api, message_id))["text"] for message_id in ids]
    assert shown == ["first", "first", "first", "second", "second", "first"]


async def test_a_deleted_mailing_takes_its_messages_from_sight(db: Database, api: Api) -> None:
    mailing_id, ids = await db.add_mailing_of(["sent", "pending"])
    assert (await api.delete(f"/mailings/{mailing_id}/")).status_code == 204
    assert [(await api.get(f"/messages/{message_id}/")).status_code for message_id in ids] == [404, 404]


async def test_the_phone_is_the_one_of_the_last_call_or_else_of_the_next(db: Database, api: Api) -> None:
    client_id = await db.add_client(phone="79161112233")
    own, called = "79161112233", "79160000000"
    expected = {"unclaimed": own, "retried": own, "maybe arrived": called, "sent": called}
    left = {"unclaimed": "", "retried": called, "maybe arrived": called, "sent": called}
    ids = {}
    for case in expected:
        status = "sent" if case == "sent" else "pending"
        (ids[case],) = await db.add_messages(await db.add_mailing(), [status], first_client=client_id)
    await change(db, ids["retried"], "claim_no = 1, phone = '79160000000'")
    await change(db, ids["maybe arrived"], "claim_no = 1, phone = '79160000000', maybe_accepted = true")
    assert {case: (await story(api, message_id))["phone"] for case, message_id in ids.items()} == expected
    await db.run("DELETE FROM client")
    assert {case: (await story(api, message_id))["phone"] for case, message_id in ids.items()} == left


async def test_a_message_that_never_was_is_not_found_whatever_its_number(api: Api) -> None:
    statuses = {
        number: (await api.get(f"/messages/{number}/")).status_code
        for number in (1, 2**31, MAX_ID, MAX_ID + 1, 10**30, 0, -1)
    }
    assert statuses == {1: 404, 2**31: 404, MAX_ID: 404, MAX_ID + 1: 400, 10**30: 400, 0: 400, -1: 400}


async def test_an_outcome_that_is_held_as_unknown_keeps_its_reason(db: Database, api: Api) -> None:
    (message_id,) = await db.add_messages(await db.add_mailing(), ["unknown"])
    await change(db, message_id, "reason_code = 'no_answer', reason_params = '{\"within_s\" : 10}'")
    told = await story(api, message_id)
    assert (told["status_reason"], told["reason_code"]) == ("no answer within 10 s", "no_answer")
    assert await db.value("SELECT unknown FROM mailing_counts") == 1


async def test_due_at_is_the_instant_in_utc(db: Database, api: Api) -> None:
    (message_id,) = await db.add_messages(await db.add_mailing(), ["pending"])
    await change(db, message_id, "due_at = '2026-05-01T12:30:00.25+03:00'")
    due_at = (await story(api, message_id))["due_at"]
    assert due_at == "2026-05-01T09:30:00.250000Z"
    assert moment(due_at).utcoffset() == timedelta(0)
