import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar._parsers import parse_url_encoded_form_data

from admin.conftest import SignedIn
from mailing.access.roles import Role
from mailing.admin.viewer import local

FORM = {"language": "ru", "next": "/admin/clients?tag=vip"}


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", ""])
async def test_a_form_of_another_site_is_refused(stranger: httpx.AsyncClient, site: str) -> None:
    answer = await stranger.post("/admin/preferences", data=FORM, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 403
    assert "sent from another site" in answer.text
    assert not answer.cookies


@pytest.mark.parametrize(
    ("origin", "status"), [("http://test", 303), ("http://evil.example", 403), ("null", 403), ("", 403)]
)
async def test_without_fetch_metadata_the_origin_decides(stranger: httpx.AsyncClient, origin: str, status: int) -> None:
    del stranger.headers["Sec-Fetch-Site"]
    headers = {"Origin": origin} if origin else {}
    assert (await stranger.post("/admin/preferences", data=FORM, headers=headers)).status_code == status


async def test_a_language_is_kept_and_leads_back_to_the_page(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.post("/admin/preferences", data=FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, FORM["next"])
    assert answer.cookies["mailing_language"] == "ru"
    nowhere = await stranger.get("/admin/nowhere")
    assert nowhere.status_code == 404
    assert 'lang="ru"' in nowhere.text
    assert "Не найдено" in nowhere.text


async def test_what_is_no_language_and_no_zone_is_not_kept(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.post("/admin/preferences", data={"language": "<b>", "zone": "Mars/Olympus"})
    assert answer.status_code == 303
    assert not answer.cookies


async def test_a_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/admin/nowhere")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert answer.headers["cache-control"] == "no-store"
    assert "style=" not in answer.text
    assert "https://" not in answer.text


async def test_a_page_knows_who_looks_at_it(signed_in: SignedIn) -> None:
    editor = await signed_in(Role.EDITOR)
    shown = (await editor.get("/admin/nowhere")).text
    assert ">editor</a>" in shown
    assert "/admin/users" not in shown
    assert "/admin/users" in (await (await signed_in(Role.ADMIN)).get("/admin/nowhere")).text


@pytest.mark.parametrize(
    "path", ["//evil.example/admin/", "https://evil.example/admin/", "/admin/\\evil", "/admin/\r\nX: y", "/docs/", ""]
)
def test_no_form_leads_to_another_site(path: str) -> None:
    assert local(path) == "/admin/"


@given(st.text())
def test_where_a_form_leads_is_always_a_page_of_ours(path: str) -> None:
    assert local(path).startswith("/admin/")
    assert local("/admin/" + path).startswith("/admin/")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param("&".join(f"{number:x}=1" for number in range(4_000)), id="many fields"),
        pytest.param("language=" + "x" * 20_000, id="many bytes"),
    ],
)
async def test_a_form_of_many_fields_or_bytes_is_refused_before_it_is_read(
    stranger: httpx.AsyncClient, sent: str
) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/admin/preferences", "/admin/sign-in"):
        assert (await stranger.post(path, content=sent, headers=form)).status_code == 413


async def test_no_form_is_remembered_after_its_request(stranger: httpx.AsyncClient) -> None:
    """Litestar's own reader would keep 1,024 of them, with the passwords typed."""
    parse_url_encoded_form_data.cache_clear()
    await stranger.post("/admin/sign-in", data={"name": "admin", "password": "a secret that was typed"})
    assert parse_url_encoded_form_data.cache_info().currsize == 0
