import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar._parsers import parse_url_encoded_form_data
from playwright.async_api import Browser as Chromium

from mailing.admin.viewer import encode_address, local_path
from support.admin import Browser
from support.browser import CHROMIUM, WITHOUT, sign_in
from support.database import Database
from support.users import PASSWORD, made

FORM = {"language": "ru", "next": "/admin/clients?tag=vip"}


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", ""])
async def test_a_form_of_another_site_is_refused(stranger: Browser, site: str) -> None:
    answer = await stranger.post("/admin/preferences", data=FORM, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 403
    assert "sent from another site" in answer.text
    assert not answer.cookies


@pytest.mark.parametrize(
    ("origin", "status"), [("http://test", 303), ("http://evil.example", 403), ("null", 403), ("", 403)]
)
async def test_without_fetch_metadata_the_origin_decides(stranger: Browser, origin: str, status: int) -> None:
    del stranger.headers["Sec-Fetch-Site"]
    headers = {"Origin": origin} if origin else {}
    assert (await stranger.post("/admin/preferences", data=FORM, headers=headers)).status_code == status


async def test_a_language_is_kept_and_leads_back_to_the_page(stranger: Browser) -> None:
    answer = await stranger.post("/admin/preferences", data=FORM)
    assert (answer.status_code, answer.headers["location"], answer.text) == (303, FORM["next"], "")
    assert answer.cookies["mailing_language"] == "ru"
    nowhere = await stranger.get("/admin/nowhere")
    assert nowhere.status_code == 404
    assert 'lang="ru"' in nowhere.text
    assert "Не найдено" in nowhere.text


async def test_what_is_no_language_and_no_zone_is_not_kept(stranger: Browser) -> None:
    answer = await stranger.post("/admin/preferences", data={"language": "<b>", "zone": "Mars/Olympus"})
    assert answer.status_code == 303
    assert not answer.cookies


async def test_a_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(stranger: Browser) -> None:
    answer = await stranger.get("/admin/nowhere")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert answer.headers["cache-control"] == "no-store"
    assert "style=" not in answer.text
    assert "https://" not in answer.text


async def test_a_page_knows_who_looks_at_it(editor: Browser, admin: Browser) -> None:
    shown = (await editor.get("/admin/nowhere")).text
    assert "><bdi>editor</bdi></a>" in shown
    assert "/admin/users" not in shown
    assert "/admin/users" in (await admin.get("/admin/nowhere")).text


HOSTILE = [
    *("//evil.example", "//evil.example/admin/", "https://evil.example/admin/", "javascript:alert(1)"),
    *("/\\evil.example", "\\\\evil.example/admin/", "/admin/\\evil", "//[", "//\N{ACCOUNT OF}.example"),
    *("/admin/\r\nX: y", "/admin/\x00", "/admin/\u2028", "/docs/", ""),
    "/admin/" + "x" * 10_000,
    "/admin/" + "\N{CYRILLIC SMALL LETTER YA}" * 1_000,
]


@pytest.mark.parametrize("path", HOSTILE)
def test_no_form_leads_to_another_site(path: str) -> None:
    assert local_path(path) == "/admin/"


@pytest.mark.parametrize(
    ("path", "encoded"),
    [
        ("/admin/\N{CYRILLIC SMALL LETTER YA}", "/admin/%D1%8F"),
        ("/admin/%D1%8F?q=%20#part", "/admin/%D1%8F?q=%20#part"),
        ("/admin/50%", "/admin/50%25"),
        ("/admin/%0d%0aX:%20y", "/admin/%0d%0aX:%20y"),
        ("/admin/\ud800", "/admin/"),
        ('/admin/a b"<>', "/admin/a%20b%22%3C%3E"),
    ],
)
def test_a_page_of_ours_is_named_in_ascii(path: str, encoded: str) -> None:
    assert local_path(path) == encoded
    assert local_path(encoded) == encoded


@given(st.text())
def test_where_a_form_leads_is_always_a_page_of_ours(path: str) -> None:
    for tried in (path, "/admin/" + path):
        assert re.fullmatch(r"/admin/[!#-~]*", local_path(tried))
        assert "\\" not in local_path(tried)


@given(st.text())
def test_whatever_an_address_holds_a_header_can_carry_it(address: str) -> None:
    assert re.fullmatch(r"[!#-~]*", encode_address(address))


@pytest.mark.parametrize("path", [*HOSTILE, "/admin/\N{CYRILLIC SMALL LETTER YA}"])
async def test_every_form_and_link_that_leads_on_stays_here_whatever_it_is_given(
    db: Database, viewer: Browser, stranger: Browser, path: str
) -> None:
    await made(db)
    answers = [
        await stranger.post("/admin/sign-in", data={"name": "anna", "password": PASSWORD, "next": path}),
        await stranger.post("/admin/preferences", data={"language": "ru", "next": path}),
        await viewer.post("/admin/preferences", data={"zone": "UTC", "next": path}),
    ]
    assert {answer.headers["location"] for answer in answers} == {local_path(path)}
    assert {answer.status_code for answer in answers} == {303}
    shown = await stranger.get("/admin/sign-in", params={"next": path})
    assert f'name="next" value="{local_path(path)}"' in shown.text


@pytest.mark.parametrize(
    "path",
    ["/admin/%D1%8F", "/admin/%FF%00", "/admin/a%0D%0Ab", "/admin/%5Cevil", "/admin/%252F", "/admin/" + "y" * 9_000],
)
async def test_a_stranger_is_sent_to_the_sign_in_by_one_line_of_ascii(stranger: Browser, path: str) -> None:
    answer = await stranger.get(path)
    location = answer.headers.get("location", "")
    assert answer.status_code in {303, 404, 414}
    assert re.fullmatch(r"[!#-~]*", location)
    assert len(location) < 3_000


@pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)
async def test_a_browser_comes_to_the_page_whose_name_is_not_ascii(
    address: str, db: Database, chromium: Chromium
) -> None:
    await made(db)
    page = await chromium.new_page(locale="en")
    await page.goto(f"{address}/admin/sign-in?next=/admin/clients%3Ftag%3D\N{CYRILLIC SMALL LETTER YA}")
    await sign_in(page)
    await page.wait_for_url("**/admin/clients?tag=%D1%8F")
    assert await page.get_by_role("heading", level=1).inner_text() == "Clients"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param("&".join(f"{number:x}=1" for number in range(4_000)), id="many fields"),
        pytest.param("language=" + "x" * 20_000, id="many bytes"),
    ],
)
async def test_a_form_of_many_fields_or_bytes_is_refused_before_it_is_read(stranger: Browser, sent: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/admin/preferences", "/admin/sign-in"):
        assert (await stranger.post(path, content=sent, headers=form)).status_code == 413


async def test_no_form_is_remembered_after_its_request(stranger: Browser) -> None:
    """Litestar's own reader would keep 1,024 of them, with the passwords typed."""
    parse_url_encoded_form_data.cache_clear()
    await stranger.post("/admin/sign-in", data={"name": "admin", "password": "a secret that was typed"})
    assert parse_url_encoded_form_data.cache_info().currsize == 0
