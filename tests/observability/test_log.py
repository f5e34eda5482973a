"""One line about each request and each job, and a page that names everything that is ever logged."""

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import redirect_stderr
from typing import Literal

import pytest
import structlog
from sqlalchemy.exc import DBAPIError

from mailing.observability import failures
from mailing.observability.log import WideEvent, cache_loggers, configure, get, worker_context
from mailing.observability.masking import Masking
from mailing.settings import Settings, secrets_of
from support import ROOT
from support.api import Api, bound_app
from support.asgi import client_of
from support.database import Database
from support.logs import Lines, logged

PAGE = (ROOT / "docs" / "logging.md").read_text(encoding="utf-8")
OF_THE_SERVER = {"sqlstate", "message"}  # `failures.log` adds them where the server refused something
COMMON = {"event", "level", "timestamp", "request_id", "job_id", "mailing_id", "message_id", "client_id", "trace_id"}


@pytest.fixture
def lines(settings: Settings) -> Iterator[Lines]:
    with logged(settings) as read:
        yield read


def documented() -> dict[str, set[str]]:
    """Every event of the page with its keys."""
    rows = re.findall(r"^\| `([^`]+)` \|([^|]*)\|", PAGE, flags=re.MULTILINE)
    return {event: set(re.findall(r"`(\w+)`", keys)) for event, keys in rows}


def written() -> dict[str, set[str]]:
    """Every event of the sources with the keys that stand there."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (event := event_of(node)):
                keys = {"exception" if each.arg == "exc_info" else each.arg for each in node.keywords if each.arg}
                keys |= {"error"} if ast.unparse(node.func) == "failures.log" else set()
                found.setdefault(event, set()).update(keys)
    return found


def event_of(call: ast.Call) -> str | None:
    callee = ast.unparse(call.func)
    if not re.search(r"\blogger\.|^(log_attempt|write|failures\.log)$", callee) or not call.args:
        return None
    first = call.args[callee == "failures.log"]
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def test_the_page_names_every_event_and_every_key_and_no_other() -> None:
    page, sources = documented(), written()
    sources["no progress, ending"] = {"stuck", "for_s", "at"}  # by a thread of its own
    assert page.keys() == sources.keys()
    for event in page.keys() - {"request", "job"}:
        assert page[event] - OF_THE_SERVER == sources[event], event


async def test_a_request_has_one_line_and_its_id_stands_in_the_answer_and_in_the_event(
    api: Api, db: Database, lines: Lines
) -> None:
    mailing_id = await db.add_mailing()
    answer = await api.post(f"/mailings/{mailing_id}/pause/", headers={"X-Request-ID": "order-17"})
    assert answer.headers["x-request-id"] == "order-17"
    assert await db.value("SELECT request_id FROM event") == "order-17"
    (line,) = lines("request")
    assert line.keys() <= COMMON | documented()["request"]
    assert line.pop("duration_ms") >= 0
    assert line.pop("timestamp")
    assert line == {
        "event": "request",
        "level": "info",
        "request_id": "order-17",
        "method": "POST",
        "route": "/mailing/api/mailings/{mailing_id}/pause",
        "status": 200,
        "caller": "MAILING_API_KEY",
        "mailing_id": mailing_id,
    }


async def test_what_a_post_made_stands_in_its_line(api: Api, lines: Lines) -> None:
    made = (await api.post("/clients/", json={"phone": "79161234567", "timezone": "UTC"})).json()
    assert [line["client_id"] for line in lines("request")] == [made["id"]]


@pytest.mark.parametrize("bad", ["", "two words", "x" * 65, "a\tb", "ключ"])
async def test_an_id_that_can_t_stand_in_a_log_is_replaced(api: Api, lines: Lines, bad: str) -> None:
    answer = await api.get("/clients/", headers=[(b"X-Request-ID", bad.encode())])
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert [line["request_id"] for line in lines("request")] == [answer.headers["x-request-id"]]


async def test_strangers_wrong_ways_and_health_have_their_lines_too(settings: Settings, lines: Lines) -> None:
    with bound_app(settings) as app:
        async with client_of(app) as stranger:
            for path in ("/mailing/api/clients/", "/nowhere", "/health/live"):
                assert "x-request-id" in (await stranger.get(path)).headers
    told = [(line["level"], line["route"], line["status"], line["caller"]) for line in lines("request")]
    assert told == [
        ("info", "/mailing/api/clients", 401, "nobody"),
        ("info", "none", 404, "nobody"),
        ("debug", "/health/live", 200, "nobody"),
    ]


def test_of_an_exception_no_value_is_told_but_its_kind_and_its_place(lines: Lines) -> None:
    try:
        try:
            int("a secret text")
        except ValueError as error:
            raise RuntimeError("first line about 79161234567\nDETAIL: Key (text)=(a secret text)") from error
    except RuntimeError:
        get(__name__).exception("went wrong")
    (line,) = lines("went wrong")
    assert "ValueError: invalid literal for int() with base 10: '…'" in line["exception"]
    assert "RuntimeError: first line about 7916***4567" in line["exception"]
    assert "test_of_an_exception" in line["exception"]
    assert "secret text" not in str(line)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("to 79161234567 and +79037654321, not 179161234567", "to 7916***4567 and +7903***4321, not 179161234567"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: ***"),
        ("the key mk_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", "the key ***"),
        ("postgresql://mailing:hunter2@db/mailing", "postgresql://***@db/mailing"),
        ("it says gateway-token-1", "it says ***"),
        ("message 7", "message 7"),
    ],
)
def test_phones_and_secrets_are_masked_wherever_they_stand(given: str, left: str) -> None:
    line = {"event": given, "nested": [{"deep": given}], "text": given, "number": 79161234567}
    masked = {"event": left, "nested": [{"deep": left}], "text": "***", "number": "7916***4567"}
    kept = {"message_id": 1_000_000_000_007}
    assert Masking(["gateway-token-1"])("", "", line | kept) == masked | kept


def test_every_secret_of_the_settings_is_known_to_the_logs() -> None:
    url = "postgresql://mailing:db-password@db/mailing"
    settings = Settings(database_url=url, api_key="k" * 16, gateway_token="g-token", smtp_password="mail-password")
    assert set(secrets_of(settings)) == {"k" * 16, "g-token", "mail-password", "db-password"}


def test_a_line_from_a_library_goes_the_same_way(lines: Lines) -> None:
    logging.getLogger("procrastinate.worker").error("Job for %s failed", "79161234567")
    structlog.get_logger("x").info("after it")
    assert [line["event"] for line in lines()] == ["Job for 7916***4567 failed", "after it"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_line_of_a_request_has_its_time_and_no_phone_or_secret(style: Literal["json", "console"]) -> None:
    fields = {
        "caller": "key mk_abcdefgh12345678",
        "status": 200,
        "phone": "79161234567",
        "path": "/s3cret",
        "nan": None,
    }
    output = io.StringIO()
    with redirect_stderr(output), WideEvent(request_id="79161234567"), worker_context(2):
        configure(level="info", style=style, secrets=["s3cret"])
        get(__name__).info("request", **fields)
        get(__name__).debug("request", **fields)
    (line,) = (re.sub(r"\d{4}-[\d-]+T[\d:.]+Z", "now", line) for line in output.getvalue().splitlines())
    assert all(shown in line for shown in ("now", "7916***4567"))
    assert not any(hidden in line for hidden in ("s3cret", "mk_", "1234567"))


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_a_terminal_is_shown_colours_unless_its_user_wants_none(
    no_color: str, colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    output = io.StringIO()
    monkeypatch.setattr(output, "isatty", lambda: True)
    with redirect_stderr(output):
        configure(level="info", style="console")
        get(__name__).info("request")
    assert ("\x1b[" in output.getvalue()) is colored


def test_a_process_assembles_each_logger_once_if_it_says_so(lines: Lines) -> None:
    logger = get("of this test")
    assert logger.bind() is not logger.bind()
    cache_loggers()
    assert logger.bind() is logger.bind()
    logger.info("request")
    assert [line["event"] for line in lines()] == ["request"]


async def test_an_error_that_lasts_has_a_line_now_and_then_which_says_what_the_server_said(
    db: Database, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        failures.log(get(__name__), "recording failed", full.value, mailing_id=7)

    with pytest.raises(DBAPIError) as full:
        await db.run(
            "DO $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = 'disk_full', DETAIL = '79161234567'; END $$"
        )
    fail()
    fail()
    (line,) = lines("recording failed")
    found = {name: line[name] for name in ("level", "error", "sqlstate", "message", "mailing_id")}
    assert found == {
        "level": "warning",
        "error": "DiskFullError",
        "sqlstate": "53100",
        "message": "no space",
        "mailing_id": 7,
    }
    monkeypatch.setattr(failures, "REPEAT_AFTER_S", 0)
    fail()
    assert len(lines("recording failed")) == 2


def test_a_database_that_is_away_is_reported_by_us_and_not_by_its_driver(lines: Lines) -> None:
    logging.getLogger("psycopg.pool").warning("error connecting in 'pool-1': refused\n\tIs the server running?")
    assert lines() == []


def test_a_line_that_cannot_be_written_is_lost_and_nothing_else_with_it(settings: Settings) -> None:
    with logged(settings):
        full = io.StringIO()
        full.close()
        with redirect_stderr(full):
            configure(level="info", style="json")
        get(__name__).info("request")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("\udc80", "\udc80"),
        (2**70, 2**70),
        (float("nan"), None),
        (ValueError("no"), "no"),
        ({"a": ("b", 1)}, {"a": ["b", 1]}),
    ],
)
def test_a_line_is_json_whatever_is_logged(value: object, shown: object) -> None:
    written = io.StringIO()
    with redirect_stderr(written):
        configure(level="info", style="json")
        get(__name__).info("request", found=value)
    assert json.loads(written.getvalue())["found"] == shown
