"""The API of clients, from the outside."""

import pytest

from mailing.web.parameters import MAX_ID
from support.answers import bad_fields, problem_of
from support.api import Api
from support.client_requests import MOSCOW, created


async def test_a_client_is_created_and_its_address_answered(api: Api) -> None:
    answer = await api.post("/clients/", json=MOSCOW)
    client = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/mailing/api/clients/{client['id']}/"
    assert client == MOSCOW | {
        "id": client["id"],
        "operator_code": "916",
        "opted_out": False,
        "created_at": client["created_at"],
        "updated_at": client["created_at"],
    }
    assert client["created_at"].endswith("Z")
    assert (await api.get(answer.headers["location"].removeprefix("/mailing/api"))).json() == client


async def test_a_phone_belongs_to_one_client(api: Api) -> None:
    first = await created(api)
    second = await created(api, phone="79161234568")
    answers = [
        await api.post("/clients", json=MOSCOW),
        await api.put(f"/clients/{second['id']}", json=MOSCOW),
        await api.patch(f"/clients/{second['id']}", json={"phone": first["phone"]}),
    ]
    for answer in answers:
        [error] = problem_of(answer, 409)["errors"]
        assert error["field"] == "phone"
        assert error["message"].endswith(f": /mailing/api/clients/{first['id']}/")
        assert first["phone"] not in answer.text
    assert (await api.get(f"/clients/{second['id']}")).json() == second


async def test_put_empties_what_it_leaves_out_but_keeps_the_opt_out(api: Api) -> None:
    client = await created(api, operator_code="925", opted_out=True)
    answer = await api.put(f"/clients/{client['id']}/", json={"phone": "79031112233", "timezone": "Asia/Omsk"})
    changed = {"phone": "79031112233", "timezone": "Asia/Omsk", "operator_code": "903", "tag": None}
    assert answer.json() == client | changed | {"updated_at": answer.json()["updated_at"]}
    assert answer.json()["updated_at"] > client["updated_at"]


PATCHES: list[tuple[dict[str, object], dict[str, object]]] = [
    ({}, {}),
    ({"tag": None}, {"tag": None}),
    ({"opted_out": True}, {"opted_out": True}),
    ({"timezone": "Asia/Tokyo"}, {"timezone": "Asia/Tokyo"}),
    ({"operator_code": "925"}, {"operator_code": "925"}),
    ({"phone": "79031112233"}, {"phone": "79031112233", "operator_code": "903"}),
    ({"phone": "79031112233", "operator_code": "916"}, {"phone": "79031112233", "operator_code": "916"}),
]


async def test_patch_changes_the_given_fields_alone(api: Api) -> None:
    client = await created(api)
    address = f"/clients/{client['id']}"
    for patch, changed in PATCHES:
        await api.put(address, json=MOSCOW | {"opted_out": False})
        answer = await api.patch(address, json=patch)
        assert answer.status_code == 200
        assert answer.json() | {"updated_at": client["updated_at"]} == client | changed


async def test_an_operator_code_of_its_own_stays_when_the_phone_changes_until_null_takes_it_back(
    api: Api,
) -> None:
    client = await created(api, operator_code="925")
    address = f"/clients/{client['id']}"
    assert (await api.patch(address, json={"phone": "79031112233"})).json()["operator_code"] == "925"
    assert (await api.patch(address, json={"operator_code": None})).json()["operator_code"] == "903"


async def test_a_change_of_nothing_leaves_updated_at_alone(api: Api) -> None:
    client = await created(api)
    assert (await api.patch(f"/clients/{client['id']}", json=MOSCOW)).json() == client


async def test_a_deleted_client_is_gone(api: Api) -> None:
    address = f"/clients/{(await created(api))['id']}/"
    assert (await api.delete(address)).status_code == 204
    for method in ("GET", "DELETE"):
        assert problem_of(await api.request(method, address), 404)
    assert (await api.put(address, json=MOSCOW)).status_code == 404
    assert (await api.patch(address, json={})).status_code == 404
    await created(api)


PHONES_OF_OTHER_TYPES: list[object] = [7916, None, [], {}, True, "\u0667" * 11]
ODD_ZONES: list[object] = ["Europe/Moscow\n", "../etc/passwd", "x" * 1000, "UTC\u0000", None, 3]
BAD_VALUES: dict[str, list[object]] = {
    "phone": [
        "+89161234567",
        "+380501234567",
        "7916123456",
        "7.91612E+10",
        "",
        "7916123456\u0000",
        *PHONES_OF_OTHER_TYPES,
    ],
    "operator_code": ["91", "9160", "9a6", "916\n", "", 916, False, ["916"]],
    "tag": ["", " ", "\u200b", "vip\u200b", "\u202evip", "a\nb", "a\u0000b", "a\u007f", "x" * 101, 5, ["a"]],
    "timezone": ["UTC+3", "+03:00", "MSK", "moscow", "localtime", "Factory", "posix/UTC", "", *ODD_ZONES],
    "opted_out": ["true", 1, None, []],
    "unknown": [1],
    "id": [5],
    "\u0000": [1],
}


@pytest.mark.parametrize(
    "phone", ["+7 (916) 123-45-67", "89161234567", "9161234567", 79161234567, "\u202a+79161234567"]
)
async def test_a_phone_and_a_tag_are_stored_in_their_one_form(api: Api, phone: object) -> None:
    made = await api.post("/clients", json={"phone": phone, "tag": " Ю\u0436ны\u0438\u0306 ", "timezone": "UTC"})
    assert made.status_code == 201
    assert (made.json()["phone"], made.json()["tag"]) == ("79161234567", "Южный")
    found = await api.get("/clients", params={"phone": str(phone), "tag": "Южны\u0438\u0306"})
    assert [client["id"] for client in found.json()["items"]] == [made.json()["id"]]
    assert (await api.get("/clients", params={"phone": "7.9E+10"})).status_code == 400
    assert (await api.get("/clients", params={"tag": "vip\u200b"})).status_code == 400
    changed = await api.patch(f"/clients/{made.json()['id']}", json={"phone": "8 916 765-43-21"})
    assert changed.json()["phone"] == "79167654321"


async def test_a_bad_value_is_refused_under_its_own_name(api: Api) -> None:
    client = await created(api)
    address = f"/clients/{client['id']}"
    for field, value in ((field, value) for field, values in BAD_VALUES.items() for value in values):
        other = MOSCOW | {"phone": "79031112233", field: value}
        answers = [await api.post("/clients", json=other), await api.put(address, json=other)]
        answers.append(await api.patch(address, json={field: value}))
        assert [bad_fields(answer) for answer in answers] == [[field]] * 3, (field, value)
    assert (await api.get("/clients")).json()["items"] == [client]


async def test_every_bad_field_is_named_at_once_and_says_what_it_must_be(api: Api) -> None:
    body = {"phone": "8", "operator_code": 9, "tag": " ", "timezone": "UTC+3", "opted_out": 1, "colour": "red"}
    answer = await api.post("/clients", json=body)
    assert sorted(bad_fields(answer)) == sorted(body)
    sentences = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert sentences["phone"].startswith("must be a Russian phone of 11 digits")
    assert "Etc/GMT-3" in sentences["timezone"]


NO_CLIENTS = {"0": 400, "-1": 400, str(MAX_ID + 1): 400, str(MAX_ID): 404, "abc": 404, "1.5": 404, "1/2": 404}


async def test_an_address_of_no_client_is_answered_as_a_problem(api: Api) -> None:
    for place, status in (NO_CLIENTS | {"%00": 404, "%ff": 404, "9" * 900: 400, "9" * 5000: 414}).items():
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            answer = await api.request(method, f"/clients/{place}", json=MOSCOW)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), place


async def test_a_trailing_slash_and_the_customers_capital_letter_do_not_matter(api: Api) -> None:
    client = await created(api)
    for path in ("/clients", "/clients/", "/Clients", "/Clients/"):
        assert (await api.get(path)).json()["items"] == [client]
        assert (await api.get(f"{path.rstrip('/')}/{client['id']}/")).json() == client
    assert (await api.get("/Clients/export/")).status_code == 200
    assert (await api.get("/Clientsx")).status_code == 404


async def test_the_documented_examples_work_when_tried(api: Api) -> None:
    schema = (await api.get(str(api.base_url.copy_with(path="/docs/openapi.json")))).json()
    fields = schema["components"]["schemas"]["ClientIn"]["properties"]
    example = {name: field["examples"][0] for name, field in fields.items() if "examples" in field}
    assert (await api.post("/clients", json=example)).status_code == 201
    body = schema["paths"]["/mailing/api/clients/import"]["post"]["requestBody"]
    upload = body["content"]["application/octet-stream"]["example"]
    answer = await api.post("/clients/import", content=upload)
    assert answer.json() == {"created": 1, "updated": 1, "normalised": 0, "opted_out": 0, "rejected": 0, "errors": []}
