"""`/admin/clients`: the search, a client's page, the export."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from litestar import Response, Router, get, post
from litestar.params import FromPath
from litestar.response import Stream
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.admin.clients import editing, uploading
from mailing.admin.clients.form import SearchForm, parse_search
from mailing.admin.forms import form
from mailing.admin.guards import EDITOR, VIEWER
from mailing.admin.pages import page, redirect
from mailing.admin.viewer import CurrentViewer, viewer_of
from mailing.clients import csv_transfer
from mailing.clients.repository import read_client
from mailing.clients.routes import csv_file
from mailing.clients.search import FIRST, SearchCursor, SearchPage, known_values, search_clients
from mailing.clients.suppression import suppression_of
from mailing.events.history import latest_events
from mailing.messages.queries import messages_of_client
from mailing.web.concurrency_limits import limited
from mailing.web.parameters import MAX_ID, Id, OptionalId, Session
from mailing.web.state import AnyRequest, AppState, state_of

PAGE_SIZE = 50
MAX_VALUES = 500  # of a filter to choose from
MAX_MESSAGES = 50
MAX_EVENTS = 50
PHONE_FIELDS = ("begins", "ends")  # the fields of the search that hold phones


@get("/", guards=VIEWER)
async def list_(request: AnyRequest, session: Session, viewer: CurrentViewer) -> Response[str]:
    """Search by query parameters, except phones, which would appear in the logs of proxies."""
    filters = {name: value for name, value in request.query_params.items() if name not in PHONE_FIELDS}
    return await _list(request, session, parse_search(filters, viewer))


@post("/", guards=VIEWER, status_code=200)
async def search(request: AnyRequest, session: Session, viewer: CurrentViewer) -> Response[Any]:
    """Redirect a search without a phone to its own address, which can be bookmarked and reloaded."""
    question = parse_search(await form(request), viewer)
    if question.errors or any(question.typed[name] for name in PHONE_FIELDS):
        return await _list(request, session, question)
    return redirect(_address(question.typed, question.place))


async def _list(request: AnyRequest, session: AsyncSession, question: SearchForm) -> Response[str]:
    found = SearchPage([], before=None, after=None)
    if not question.errors:
        found = await search_clients(session, question.search, place=question.place, limit=PAGE_SIZE)
    first = FIRST if question.place != FIRST else None
    neighbours = {"first": first, "prev": found.before, "next": found.after}
    places = {relation: place for relation, place in neighbours.items() if place}
    return page(
        request,
        "clients/list.html",
        clients=found.clients,
        typed=question.typed,
        errors=question.errors,
        filtered=any(question.typed.values()),
        tags=await known_values(session, "tag", count=MAX_VALUES),
        zones=[(zone, zone) for zone in await known_values(session, "timezone", count=MAX_VALUES)],
        is_posted=any(question.typed[name] for name in PHONE_FIELDS),
        places={relation: _at(place) for relation, place in places.items()},
        addresses={relation: _address(question.typed, place) for relation, place in places.items()},
    )


def _at(place: SearchCursor) -> dict[str, str]:
    return {} if place == FIRST else {"before" if place.backwards else "after": str(place.position)}


def _address(typed: Mapping[str, str], place: SearchCursor) -> str:
    query = urlencode({name: value for name, value in typed.items() if value and name not in PHONE_FIELDS} | _at(place))
    return "/admin/clients" + (f"?{query}" if query else "")


@get("/{client_id:int}", guards=VIEWER)
async def read(
    request: AnyRequest, session: Session, client_id: FromPath[Id], before: OptionalId = None
) -> Response[str]:
    client = await read_client(state_of(request).reads, client_id)
    language = viewer_of(request).language
    messages = await messages_of_client(
        session, client_id, before=before or MAX_ID, limit=MAX_MESSAGES, language=language
    )
    more = len(messages) > MAX_MESSAGES
    here = f"/admin/clients/{client_id}"
    return page(
        request,
        "clients/client.html",
        client=client,
        listed=await suppression_of(session, client.phone) if client.opted_out else None,
        messages=messages[:MAX_MESSAGES],
        first_page=here if before else "",
        next_page=f"{here}?before={messages[MAX_MESSAGES - 1].id}" if more else "",
        events=await latest_events(session, "client_id", client_id, count=MAX_EVENTS),
    )


@get("/export", guards=EDITOR, **limited("exports"))
async def export(state: AppState) -> Stream:
    """Export all phones; viewers may not."""
    return await csv_file(state, csv_transfer.export_clients(state.exporting), name="clients.csv")


clients = Router("/clients", route_handlers=[list_, search, read, export, *editing.HANDLERS, *uploading.HANDLERS])
