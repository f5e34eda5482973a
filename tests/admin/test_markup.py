"""Whatever people, files and gateways say is shown as words: it never becomes a part of the page.

Every page is walked, as the application itself lists them, over rows whose texts all try to break out.
"""

import html
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from litestar import Litestar

from mailing.web.parameters import SAFE
from support.admin import Browser, admin_handlers
from support.database import Database

OUR_TAGS = {"img": "/static/favicon.svg", "link": "/static/", "script": "/static/", "iframe": "/admin/reports/"}


def evil(field: str) -> str:
    """Return markup that leaves attributes, text and raw-text elements; `field` tells where it was shown."""
    out = "'\"></title></textarea></option>"
    return f"{out}<script>{field}</script><img src=x onerror={field}><a href=javascript:{field}>"


# Rows of every kind, each with the id 1; the parameters are fields, and each gets its `evil` text.
ROWS = (
    "UPDATE user_account SET name = :user_name",
    """INSERT INTO mailing (text, starts_at, ends_at, status, planned_revision, started_at, tags, released_revision,
        released_at, released_by)
    VALUES (:mailing_text, now() - interval '1 h', now() + interval '1 d', 'running', 1, now(), ARRAY[:mailing_tag], 1,
        now(), 'tests')""",
    """INSERT INTO client (phone, operator_code, tag, timezone)
    VALUES ('79161234567', '916', :client_tag, :client_timezone)""",
    """INSERT INTO event (kind, actor, mailing_id, client_id, message_id, detail)
    SELECT 'message.resolved', :event_actor, m, c, s,
        jsonb_build_object('as', 'sent', 'note', CAST(:event_detail AS text))
    FROM (VALUES (1, NULL, NULL), (NULL, 1, NULL), (NULL, NULL, 1)) AS of_each (m, c, s)""",
    "INSERT INTO api_key (name, hash, hint) VALUES (:key_name, '\\x00', 'mk_x')",
    """INSERT INTO user_session (hash, user_id, ip_address, user_agent)
    VALUES ('\\x00', 1, :session_address, :session_agent)""",
    """UPDATE gateway SET breaker_opened_at = now(), breaker_next_probe_at = now(),
        breaker_reason_code = 'connection_error',
        breaker_reason_params = jsonb_build_object('errno', CAST(:breaker_reason AS text))""",
    """INSERT INTO report (day, zone, starts, ends, due_at, sent_at, last_error, delivered_to)
    VALUES (current_date, 'UTC', current_date, current_date + 1, now(), now(), :report_error, ARRAY[:report_to])""",
    """INSERT INTO upload (name, actor, size, status, finished_at, rejected)
    VALUES (:upload_name, :upload_actor, 9, 'done', now(), 1)""",
    """INSERT INTO upload_row_error
    VALUES (1, 2, :refused_field, 'tag_invisible', jsonb_build_object('name', CAST(:refused_name AS text)),
        :refused_row)""",
)
OF_MESSAGES = (
    """UPDATE message SET reason_code = 'not_claimable',
        reason_params = jsonb_build_object('error', CAST(:message_reason AS text))""",
    """INSERT INTO attempt (message_id, mailing_id, number, started_at, outcome, reason_code, reason_params)
    VALUES (1, 1, 1, now(), 'ambiguous', 'connection_error',
        jsonb_build_object('errno', CAST(:attempt_reason AS text)))""",
)
# What people write, in any script: from right to left it would reorder the words and numbers beside it.
WRITTEN = {
    *("user_name", "mailing_text", "mailing_tag", "client_tag", "event_actor", "event_detail", "key_name"),
    *("upload_name", "upload_actor", "upload_value", "refused_row"),
}
FIELDS = {*re.findall(r":(\w+)", " ".join(ROWS + OF_MESSAGES)), "upload_value"}


class Markup(HTMLParser):
    """What of a page is not as our templates have it, and what of WRITTEN is not isolated from the words beside it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.foreign: list[str] = []
        self.beside: set[str] = set()
        self._is_isolated = False
        self.feed(page)

    def handle_data(self, data: str) -> None:
        if not self._is_isolated:
            self.beside |= WRITTEN & set(re.findall(r"<script>(\w+)", data))

    def handle_endtag(self, _: str) -> None:
        self._is_isolated = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_isolated = tag in {"bdi", "title", "option"} or ("dir", "auto") in attrs
        given = {name: said or "" for name, said in attrs}
        addresses = [given[name] for name in ("src", "href", "action", "formaction") if name in given]
        own = all(each.startswith(("/", "#")) and not each.startswith("//") for each in addresses)
        expected = OUR_TAGS.get(tag)
        at_home = expected is None or all(each.startswith(expected) for each in addresses or [""])
        if not own or not at_home or any(name.startswith("on") or name == "style" for name in given):
            self.foreign.append(self.get_starttag_text() or tag)


def shown_in(page: str) -> set[str]:
    """Return the fields whose whole text the page shows; a row of a file has its quotes doubled."""
    said = html.unescape(page).replace('"', "")
    return {field for field in FIELDS if evil(field).replace('"', "") in said}


@pytest.fixture
async def admin(admin: Browser, db: Database) -> Browser:
    await fill(db, ROWS)
    await db.add_messages(1, ["unknown", "failed", "sent"])
    await fill(db, OF_MESSAGES)
    return admin


async def fill(db: Database, rows: Iterable[str]) -> None:
    for statement in rows:
        await db.run(statement, **{field: evil(field) for field in re.findall(r":(\w+)", statement)})


def paths(app: Litestar, *, safe: bool) -> Iterator[tuple[str, str]]:
    """Return method and path of every page, with ids that exist."""
    today = str(datetime.now(UTC).date())
    for method, path, _ in admin_handlers(app):
        if (method in SAFE) == safe and method != "HEAD":
            yield method, path.replace("999999", "1").replace("2000-01-01", today)


@pytest.mark.parametrize("language", ["en", "ru"])
async def test_no_row_becomes_a_part_of_any_page(app: Litestar, admin: Browser, language: str) -> None:
    admin.cookies.set("mailing_language", language)
    await admin.post("/admin/clients/upload", files={"file": (evil("upload_name"), csv_file(), "text/csv")})
    wrong, shown, pages = [], set[str](), 0
    also = [("GET", "/admin/clients/uploads/2"), ("GET", f"/admin/{evil('path')}")]
    for method, path in [*paths(app, safe=True), *also]:
        answer = await admin.request(method, path)
        assert answer.status_code < 500, path
        if answer.headers.get("content-type", "").startswith("text/html") and not path.endswith("/mail"):
            found = Markup(answer.text)
            wrong += [(path, each) for each in (*found.foreign, *found.beside)]
            shown |= shown_in(answer.text)
            pages += 1
    assert wrong == []
    assert pages > 25
    assert sorted(FIELDS - shown) == [], "shown nowhere, so nothing is proved of them"


def csv_file() -> bytes:
    said = evil("upload_value").replace('"', '""')
    return f'phone,operator_code,tag,timezone\n79161234568,916,"{said}",UTC\n"{said}",916,,UTC\n'.encode()


async def test_no_field_cuts_off_what_is_pasted_into_it(app: Litestar, admin: Browser) -> None:
    """A browser does so in silence where a field has a `maxlength`; the server says what is too long."""
    pages = [(await admin.request(method, path)).text for method, path in paths(app, safe=True)]
    assert sum("<textarea" in page for page in pages) > 2
    assert {found for page in pages for found in re.findall("<(?:input|textarea)[^>]* maxlength[^>]*>", page)} == set()


async def test_every_part_that_the_keyboard_can_scroll_has_a_name(app: Litestar, admin: Browser) -> None:
    """A reader of the screen stops there, and hears the name."""
    pages = [(await admin.request(method, path)).text for method, path in paths(app, safe=True)]
    stops = [found for page in pages for found in re.findall('<[^>]* tabindex="0"[^>]*>', page)]
    assert len(stops) > 10
    assert {stop for stop in stops if 'role="region"' not in stop or "aria-label" not in stop} == set()


ASKED = [
    *("q", "status", "phone", "begins", "ends", "tag", "timezone", "operator_code", "next", "seen", "state", "code"),
    "error",
]
ASKED_ALONE = ["cursor", "before", "after", "like", "mailing_id"]  # a bad one may be all that the answer speaks of
ENTERED = [
    *("text", "name", "role", "scope", "password", "old", "again", "tag", "tags", "phone", "timezone", "zone", "rate"),
    *("operator_code", "operator_codes", "starts_at", "ends_at", "window_start", "window_end", "note", "as", "next"),
    *("language", "opted_out", "was_opted_out", "file"),
]


async def test_no_question_becomes_a_part_of_any_page(app: Litestar, admin: Browser) -> None:
    wrong, echoed = [], set[str]()
    for method, path in paths(app, safe=True):
        for names in (ASKED, *([name] for name in ASKED_ALONE)):
            answer = await admin.request(method, path, params={name: evil(name) for name in names})
            if answer.headers.get("content-type", "").startswith("text/html") and not path.endswith("/mail"):
                wrong += [(path, names, each) for each in Markup(answer.text).foreign]
                echoed |= {name for name in names if evil(name) in html.unescape(answer.text)}
    assert wrong == []
    assert echoed >= {"q", "tag"}, "no answer repeats what was asked, so nothing is proved"


async def test_no_form_becomes_a_part_of_the_page_that_refuses_it(app: Litestar, admin: Browser) -> None:
    """What is sent to end a session, or to disable somebody, comes last."""
    wrong, echoed = [], set[str]()
    ending = re.compile("sign-|session|/users/|password|/delete$|/stop$")
    for method, path in sorted(paths(app, safe=False), key=lambda each: bool(ending.search(each[1]))):
        answer = await admin.request(method, path, data={name: evil(name) for name in ENTERED})
        assert answer.status_code < 500, path
        if answer.headers.get("content-type", "").startswith("text/html"):
            wrong += [(path, each) for each in Markup(answer.text).foreign]
            echoed |= {name for name in ENTERED if evil(name) in html.unescape(answer.text)}
    assert wrong == []
    assert echoed >= {"text", "name", "tags", "phone", "timezone", "rate", "note", "starts_at"}
    assert not echoed & {"password", "old", "again"}


def test_the_check_finds_what_breaks_out() -> None:
    found = Markup(f'<input value="{evil("x")}">').foreign
    assert [each.partition(" ")[0] for each in found] == ["<script>", "<img", "<a"]
    assert (
        Markup(f'<input value="{html.escape(evil("x"))}"><a href="/admin/">{html.escape(evil("x"))}</a>').foreign == []
    )
