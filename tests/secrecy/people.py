"""What people and programs do with secrets, phones and texts, right and wrong; every refusal is kept."""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from mailing.access import api_keys as keys
from mailing.access import users
from mailing.access.roles import Role
from mailing.database.engine import transaction
from secrecy.canaries import Canaries
from support.answers import json_of
from support.database import Database

SAME_SITE = {"Sec-Fetch-Site": "same-origin"}
ENDS_AT = "2090-01-01T00:00:00Z"
# An error names the bad field and the id that is not there, as the caller wrote them: that is its use. Logs may not.
NAMED_TO_THE_CALLER = re.compile(r'"field":"[^"]*"|There is no client \d+')


@dataclass
class People:
    """`apis` are asked in turn. `refusals` holds every answer that is none of success, and what imports say of rows."""

    apis: list[httpx.AsyncClient]
    canaries: Canaries
    keys: list[str] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)
    statuses: set[int] = field(default_factory=set)
    asked: int = 0

    async def ask(self, method: str, path: str, *, key: str | None = None, **given: Any) -> httpx.Response:  # noqa: ANN401 - what httpx takes
        self.asked += 1
        headers = {"Authorization": f"Bearer {key or self.keys[self.asked % len(self.keys)]}"} | given.pop(
            "headers", {}
        )
        answer = await self.apis[self.asked % len(self.apis)].request(method, path, headers=headers, **given)
        self.statuses.add(answer.status_code)
        if answer.status_code >= 400 or path.endswith("/import"):
            told = NAMED_TO_THE_CALLER.sub("", f"{answer.headers} {answer.text}")
            self.refusals[f"answer {self.asked} {method} {answer.status_code}"] = told
        return answer

    def keep(self, what: str, answer: httpx.Response, *, status: int | None = None) -> None:
        """Keep what the admin page has answered."""
        self.asked += 1
        self.statuses.add(answer.status_code)
        if answer.status_code >= 400:
            self.refusals[f"{what} {self.asked}"] = answer.text
        assert status in (None, answer.status_code)

    async def post(self, path: str, **given: Any) -> httpx.Response:  # noqa: ANN401 - of httpx
        return await self.ask("POST", f"/mailing/api{path}", **given)

    async def get(self, path: str, **given: Any) -> httpx.Response:  # noqa: ANN401 - of httpx
        return await self.ask("GET", f"/mailing/api{path}", **given)

    async def mailing(self, text: str) -> int:
        body = {"text": text, "starts_at": "2026-01-01T00:00:00Z", "ends_at": ENDS_AT}
        return int(json_of(await self.post("/mailings/", json=body, headers=self.idempotent()), 201)["id"])

    def idempotent(self) -> dict[str, str]:
        return {"Idempotency-Key": self.canaries.new("Idempotency-Key")}


async def give_access(db: Database, people: People, *, keys_count: int, users_count: int) -> list[tuple[str, str]]:
    """Keys, and users with their passwords."""
    made = []
    async with transaction(db.sessions) as session:
        for number in range(keys_count):
            key = await keys.create(session, f"program {number}", by="tests")
            people.keys.append(people.canaries.keep("API key", key))
        for number in range(users_count):
            name, password = f"person-{number}", people.canaries.new("password")
            await users.create(session, name, role=Role.ADMIN, password=password, by="tests")
            made.append((name, password))
    return made


async def sign_in(people: People, name: str, password: str) -> None:
    """Once right and once wrong, and a form from another site."""
    client = people.apis[people.asked % len(people.apis)]
    wrong = {"name": name, "password": people.canaries.new("wrong password"), "next": "/admin/"}
    people.keep("sign-in", await client.post("/admin/sign-in", data=wrong, headers=SAME_SITE), status=400)
    people.keep("another site", await client.post("/admin/sign-in", data=wrong), status=403)
    answer = await client.post("/admin/sign-in", data=wrong | {"password": password}, headers=SAME_SITE)
    token = people.canaries.keep("session token", answer.cookies["mailing_session"])
    for path in ("/admin/", "/admin/clients", "/admin/no-such-page"):
        people.keep(path, await client.get(path, headers={"Cookie": f"mailing_session={token}"}))
    client.cookies.clear()


async def sign_in_through_the_provider(people: People) -> None:
    """Sign in at a provider that refuses the code and repeats all that it was sent."""
    client = people.apis[0]
    begun = await client.get("/admin/sign-in/oidc")
    assert begun.status_code == 303, begun.text
    (state,) = parse_qs(urlsplit(begun.headers["location"]).query)["state"]
    people.canaries.keep("OIDC state", state)
    code = people.canaries.new("OIDC code")
    answer = await client.get("/admin/sign-in/oidc/back", params={"code": code, "state": state})
    people.keep("provider", answer, status=400)
    client.cookies.clear()


async def err(people: People, *, phones: list[str], texts: list[str], unstorable: str) -> None:
    """Everything that a caller can do wrong with them."""
    phone, other, text = *phones[:2], texts[0]
    repeated = people.idempotent()
    mailing = {"text": text, "starts_at": "2026-01-01T00:00:00Z", "ends_at": ENDS_AT}
    client = {"phone": phone, "timezone": "UTC"}
    await people.post("/clients/", json=client)
    await people.post("/clients/", json=client | {"phone": f"+{phone}"})
    await people.post("/clients/", json=client | {"phone": int(phone), "timezone": other, text: text})
    await people.post("/clients/", json=client | {"phone": f"{phone}\0", "tag": text * 40})
    await people.post("/clients/", content=f'{{"phone": "{phone}", "tag": "{text}')
    await people.post("/clients/import", content=f"phone,timezone\n{phone}0,{text}\n{other},{other}\n")
    await people.post("/clients/import", content=f"{phone},{text}\n{other},UTC\n")
    await people.get(f"/clients/{phone}/")
    await people.get("/clients/", params={"phone": f"{phone};--", "cursor": text, text: phone})
    await people.get(f"/{phone}/{text}")
    await people.get("/events/", params={"client_id": phone, "mailing_id": text})
    await people.post("/mailings/", json=mailing | {"starts_at": text, "filter": {"tags": [phone] * 2000}})
    await people.post("/mailings/", json=mailing | {"local_window": {"start": phone, "end": text}})
    await people.post("/mailings/", json=mailing | {"text": unstorable}, headers=repeated)
    await people.post("/clients/", json={"phone": other[:-1] + "x"}, headers=repeated)
    used = people.idempotent()
    await people.post("/mailings/preview", json=mailing, headers=used)
    await people.post("/mailings/preview", json=mailing | {"text": texts[1]}, headers=used)
    for _ in range(5):
        await people.get("/clients/", key=people.canaries.new("wrong key"), params={"phone": phone})
    await people.get("/clients/", headers={"Authorization": f"Basic {people.canaries.new('wrong key')}"})
