"""Lists of clients: filters, pages, and queries that can't be read."""

from support.answers import Json, bad_fields, json_of
from support.api import Api
from support.client_requests import created
from support.mailing_requests import items_of_pages


async def test_filters_narrow_the_list_down(api: Api) -> None:
    vip = await created(api)
    plain = await created(api, phone="79161234568", tag=None)
    other = await created(api, phone="79031112233", tag="=1+1 & ü")

    async def found(**filters: str) -> list[Json]:
        return list(json_of(await api.get("/clients", params=filters))["items"])

    assert await found() == [vip, plain, other]
    assert await found(tag="vip") == [vip]
    assert await found(tag="\r\n vip\n") == [vip], "as a tag is read everywhere, without the white space around it"
    assert await found(tag="=1+1 & ü") == [other]
    assert await found(operator_code="916") == [vip, plain]
    assert await found(phone="79031112233") == [other]
    assert await found(operator_code="903", tag="vip") == []
    assert await found(tag="' OR true --") == []


async def test_pages_follow_each_other_without_gap_or_repetition(api: Api) -> None:
    clients = [await created(api, phone=f"7916000000{n}") for n in range(7)]
    assert await items_of_pages(api, "/clients", limit=3) == clients


BAD_QUERIES = [
    ("colour=red", ["colour"]),
    ("session=1&data=2&request=3", ["session", "data", "request"]),
    *((f"tag={value}", ["tag"]) for value in ("", "a%00b", "%00", "x" * 101, "%ff%fe", "%ed%a0%80")),
    *((f"operator_code={value}", ["operator_code"]) for value in ("91", "916%0a", "%ff")),
    ("phone=8916123456", ["phone"]),
    ("tag=vip&tag=b", ["tag"]),
    ("%00=1", ["\u0000"]),
    ("limit=0&cursor=x&tag=%00&operator_code=x&phone=8", ["tag", "operator_code", "phone", "limit", "cursor"]),
    ("limit=0&colour=red&phone=8", ["colour", "phone", "limit"]),
]


async def test_every_bad_query_parameter_is_named(api: Api) -> None:
    for query, fields in BAD_QUERIES:
        assert bad_fields(await api.get(f"/clients?{query}")) == fields, query


async def test_an_odd_query_that_can_be_read_finds_nothing(api: Api) -> None:
    await created(api)
    for query in ("tag=\u00fc", "tag=a%0a", "phone=79999999999"):
        answer = await api.get(f"/clients?{query}")
        assert (answer.status_code, answer.json()["items"]) == (200, []), query
