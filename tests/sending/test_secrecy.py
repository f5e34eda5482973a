"""Phones, texts and tokens go through everything that a process does, and none comes out in a log or a refusal."""

from msgspec.structs import replace

from support.api import Api
from support.campaign import Campaign
from support.database import Database
from support.logs import logged

PHONES = ("79161112233", "79161112234")
TEXT = "canary sings of a sale"
BROKEN_TEXT = "canary that no table takes"
TOKEN = "canary-gateway-token"
STRANGER = "canary-of-a-stranger"
SECRETS = (*PHONES, "canary")


async def test_no_phone_text_or_token_is_logged_or_told_in_a_refusal(campaign: Campaign, db: Database) -> None:
    """Also where the database refuses a row and repeats it, and where the gateway fails and answers garbage."""
    with logged(replace(campaign.settings, gateway_token=TOKEN)) as lines:
        refusals = await refused(campaign.api, db)
        for phone in PHONES:
            await campaign.api.post("/clients/", json={"phone": phone, "timezone": "UTC"})
        await campaign.sandbox.behave(error_500=0.3, garbage=0.2, drop=0.2, seed=3)
        async with campaign.working(gateway_token=TOKEN):
            await campaign.finished(await campaign.mailing(text=TEXT))
        told = str(lines())
        assert {line["status"] for line in lines("request")} >= {200, 201, 400, 401, 404, 409, 500}
        assert lines("unexpected error")
        assert any(line.get("accepted") for line in lines("job"))
        assert all(line["job_id"] and line["task"] and line["duration_ms"] >= 0 for line in lines("job"))
    assert [secret for secret in (*SECRETS, str(campaign.settings.api_key)) if secret in told + refusals] == []


async def refused(api: Api, db: Database) -> str:
    """Everything that a caller can do wrong with them, and what is answered."""
    await db.run(f"ALTER TABLE mailing ADD CHECK (text <> '{BROKEN_TEXT}')")
    mailing = {"text": BROKEN_TEXT, "starts_at": "2026-01-01T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}
    first = {"phone": PHONES[0], "timezone": "UTC"}
    await api.post("/clients/", json=first)
    await api.get(f"/clients/{PHONES[0]}/")  # is told that there is no client with this id
    answers = [
        await api.post("/clients/", json=first),
        await api.post("/clients/", json={"phone": f"{PHONES[0]}\0", "timezone": PHONES[1]}),
        await api.post("/clients/import", content=f"phone,phone\n{PHONES[0]},{TEXT}\n"),
        await api.get("/clients/", params={"phone": f"{PHONES[0]}0"}),
        await api.get(f"/{PHONES[0]}/{TEXT}"),
        await api.get("/clients/", headers={"Authorization": f"Bearer {STRANGER}"}),
        await api.post("/mailings/", json=mailing),
        await api.post("/mailings/", json=mailing | {"text": TEXT, "starts_at": TEXT}),
        await api.post("/mailings/", content=f'{{"text": "{TEXT}"'),
    ]
    assert all(answer.status_code >= 400 for answer in answers)
    return "".join(answer.text for answer in answers)
