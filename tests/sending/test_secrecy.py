"""Phones, texts and tokens go through everything that a process does, and none comes out in a log or a refusal."""

from msgspec.structs import replace

from secrecy.canaries import Canaries
from secrecy.people import People, err
from support.api import KEY, running_app
from support.asgi import client_of
from support.campaign import Campaign
from support.database import Database
from support.logs import logged


async def test_no_phone_text_or_token_is_logged_or_told_in_a_refusal(campaign: Campaign, db: Database) -> None:
    """Also where the database refuses a row and repeats it, and where the gateway fails and answers garbage."""
    canaries = Canaries(2)
    canaries.keep("API key", KEY)
    texts, unstorable, token = [canaries.new("text") for _ in range(2)], canaries.new("text"), canaries.new("token")
    await db.run(f"ALTER TABLE mailing ADD CHECK (text <> '{unstorable}')")
    with logged(replace(campaign.settings, gateway_token=token)) as lines:
        async with running_app(campaign.settings) as app, client_of(app) as api:
            people = People([api], canaries, keys=[KEY])
            await err(people, phones=canaries.phones, texts=texts, unstorable=unstorable)
        await campaign.api.post("/clients/", json={"phone": canaries.phones[1], "timezone": "UTC"})
        await campaign.sandbox.behave(error_500=0.3, garbage=0.2, drop=0.2, seed=3)
        async with campaign.working(gateway_token=token):
            await campaign.finished(await campaign.mailing(text=texts[0]))
        assert {line["status"] for line in lines("request")} >= {200, 201, 400, 401, 404, 409, 500}
        assert lines("unexpected error")
        assert any(line.get("accepted") for line in lines("job"))
        assert all(line["job_id"] and line["task"] and line["duration_ms"] >= 0 for line in lines("job"))
        assert canaries.found_in({"logs": str(lines()), **people.refusals}) == []
