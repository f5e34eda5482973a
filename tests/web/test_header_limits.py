import secrets

import pytest
from litestar._kwargs.extractors import create_query_default_dict
from litestar._parsers import parse_cookie_string, parse_query_string

from mailing.settings import Settings
from mailing.web.header_limits import own_cookies
from support.answers import problem_of
from support.api import running_app
from support.asgi import client_of


async def test_no_long_head_is_remembered_in_pieces(settings: Settings) -> None:
    """Litestar keeps the last 1,024: of 64 KiB each they would take gigabytes."""
    parse_query_string.cache_clear()
    parse_cookie_string.cache_clear()
    async with running_app(settings) as app, client_of(app) as http:
        for n in range(5):
            query = "&".join(f"{n}_{m}=1" for m in range(500))
            cookie = f"mailing_language=ru; mailing_{n}={secrets.token_hex(1000)}"
            await http.get(f"/admin/sign-in?{query}", headers={"Cookie": cookie})
    remembered = (parse_query_string, create_query_default_dict, parse_cookie_string)
    assert [each.cache_info().currsize for each in remembered] == [0, 0, 0]


async def test_a_path_without_end_is_refused_as_a_problem_and_remembered_nowhere(settings: Settings) -> None:
    async with running_app(settings) as app, client_of(app) as http:
        for path in ("/admin/", "/static/", "/mailing/api/clients/"):
            answer = await http.get(path + "0" * 1024)
            assert "at most 1024 characters" in problem_of(answer, 414)["detail"]
            assert "x-request-id" in answer.headers


async def test_a_cookie_of_backslashes_beside_ours_changes_nothing(settings: Settings) -> None:
    async with running_app(settings) as app, client_of(app) as http:
        cookies = 'other="' + '\\"' * 20_000 + '"; mailing_language=ru; mailing_x="' + "\\0" * 10_000 + '"'
        page = await http.get("/admin/sign-in", headers={"Cookie": cookies})
    assert page.status_code == 200
    assert '<html lang="ru"' in page.text


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        (b"", b""),
        (b"a=b", b""),
        (b"a=b; mailing_session=t", b"mailing_session=t"),
        (b'mailing_zone="Europe/Moscow";mailing_language=ru', b'mailing_zone="Europe/Moscow"; mailing_language=ru'),
        (b"__Host-mailing=t; __Host-mailing_begun=x=", b"__Host-mailing=t; __Host-mailing_begun=x="),
        (b'mailing_notice="a\\054"', b""),
    ],
)
def test_only_our_cookies_are_read(given: bytes, ours: bytes) -> None:
    assert own_cookies(given) == ours
