"""The names that API, page, documentation and sandbox answer to; another site's own name is none of them."""

import json

import aiohttp
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mailing.gateway.sandbox.app import running
from mailing.gateway.sandbox.behaviour import Behaviour
from mailing.settings import Settings
from mailing.web.host_names import hosts_of, is_served
from support.api import running_api

TOLD = Settings(public_url="https://Mailing.example.org/sms", allowed_hosts="api, [2001:db8::7] ,other.example.org")
KNOWN = hosts_of(TOLD)
POD = "10.1.2.3"


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "[::ffff:127.0.0.1]"),
        *("mailing.example.org", "mailing.example.org.:443", "api:8000", "other.example.org", "[2001:DB8:0::7]"),
        *(POD, f"{POD}:8000", "[::ffff:10.1.2.3]:8000"),
    ],
)
def test_loopback_the_address_asked_at_and_the_names_told_are_served(host: str) -> None:
    assert is_served(host, known=KNOWN, here=POD)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1:8000@evil.example"),
        "10.1.2.4",
        *("", ":8000", "evil.example, localhost", "localhost:8000:1", "xmailing.example.org", "example.org", "0.0.0.1"),
        *("sub.mailing.example.org", "[::2]", "localhost/", "2130706433", "0177.0.0.1", "local\u0127ost"),
    ],
)
def test_any_other_name_is_not(host: str) -> None:
    assert not is_served(host, known=KNOWN, here=POD)


@given(st.text(max_size=40))
def test_no_host_is_an_accident(host: str) -> None:
    assert is_served(host, known=KNOWN, here=POD) in {True, False}


@pytest.mark.parametrize("path", ["clients/", "/admin/sign-in", "/docs/", "/docs/openapi.json", "/metrics", "/"])
async def test_a_foreign_name_is_answered_421_and_told_the_remedy(settings: Settings, path: str) -> None:
    async with running_api(settings) as api:
        answer = await api.get(httpx.URL("http://test").join(path) if path[0] == "/" else path, headers=EVIL)
        assert (answer.status_code, answer.headers["content-type"]) == (421, "application/problem+json")
        assert "MAILING_ALLOWED_HOSTS" in answer.json()["detail"]
        assert "x-content-type-options" in answer.headers
        assert answer.headers["x-request-id"]


EVIL = {"Host": "evil.example"}


async def test_a_foreign_name_changes_nothing(settings: Settings) -> None:
    async with running_api(settings) as api:
        client = {"phone": "79161234567", "timezone": "Europe/Moscow"}
        assert (await api.post("/clients/", json=client, headers=EVIL)).status_code == 421
        assert (await api.get("/clients/")).json()["items"] == []
        told = {"name": "admin", "password": "correct horse battery"}
        assert (await api.post("http://test/admin/sign-in", data=told, headers=EVIL)).status_code == 421


@pytest.mark.parametrize("hosts", [["test", "test"], ["a" * 301]])
async def test_a_request_names_one_host(settings: Settings, hosts: list[str]) -> None:
    async with running_api(settings) as api:
        answer = await api.get("/clients/", headers=[("Host", host) for host in hosts])
        assert (answer.status_code, "Send one Host header" in answer.json()["detail"]) == (400, True)


async def test_a_name_that_was_told_is_served(settings: Settings) -> None:
    async with running_api(replace(settings, allowed_hosts="evil.example")) as api:
        assert (await api.get("/clients/", headers=EVIL)).status_code == 200


async def test_probes_may_say_any_name_to_health_alone(settings: Settings) -> None:
    async with running_api(settings) as api:
        for path in ("/health/live", "/health/ready"):
            assert (await api.get(f"http://test{path}", headers=EVIL)).status_code == 200
        for path in ("/health", "/health/../metrics", "/healthy"):
            assert (await api.get(f"http://test{path}", headers=EVIL)).status_code == 421


@pytest.mark.parametrize("path", ["/", "/ledger", "/behaviour", "/v1/send/1"])
async def test_the_sandbox_shows_nothing_to_a_foreign_name(path: str) -> None:
    async with running("127.0.0.1", 0, Behaviour(), allowed_hosts=["sandbox"]) as port, aiohttp.ClientSession() as http:
        for host, is_welcome in [("evil.example", False), ("sandbox:8001", True), ("localhost", True)]:
            async with http.get(f"http://127.0.0.1:{port}{path}", headers={"Host": host}) as answer:
                assert (answer.status == 421) is not is_welcome
        async with http.put(f"http://127.0.0.1:{port}/behaviour", data=json.dumps({"down": True}), headers=EVIL) as no:
            assert no.status == 421
