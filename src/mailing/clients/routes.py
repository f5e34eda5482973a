"""Handlers of `/clients`; `repository` applies a change to the client's messages."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated

from litestar import Response, Router, delete, get, patch, put
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Stream

from mailing.clients import csv_transfer, phone, repository, search, tag
from mailing.clients.csv_reader import MAX_LINE_BYTES, MAX_LISTED_ERRORS
from mailing.clients.phone import normalised_phone
from mailing.clients.repository import ClientRepository, name_phone_owner
from mailing.clients.schemas import ClientIn, ClientOut, ClientPatch, ImportResult
from mailing.clients.tag import normalised_tag
from mailing.errors import FieldError, Invalid
from mailing.reasons.refusals import MAX_TAG_LENGTH, PHONE_RULE, TAG_RULE
from mailing.web.concurrency_limits import CONCURRENCY_LIMIT, ReleaseLimits, limited
from mailing.web.idempotency import Idempotency, post
from mailing.web.pagination import Cursor, Limit, Page, decode_cursor, page
from mailing.web.parameters import Caller, Id, Session, documented
from mailing.web.problems import RETRY_ADVICE
from mailing.web.state import AnyRequest, ApiRequest, AppState, state_of

MAX_IMPORT_BYTES = 200_000_000  # bytes, about five million rows
MAX_PAUSE_S = 0.02
CHARSETS = ("utf-8", "us-ascii", "utf-16", "utf-16le", "utf-16be", "windows-1251", "utf8", "cp1251")
CSV_EXAMPLE = (
    "phone,operator_code,tag,timezone,opted_out\r\n79161234567,916,vip,Europe/Moscow,no\r\n79031234568,,,Asia/Omsk,\r\n"
)

# A rule for tags and phones that the framework checks, so that all bad parameters are named at once.
NO_CONTROL_CHARACTERS = "^\\s*[^\\u0000-\\u001f\\u007f-\\u009f]+\\s*$"  # white space around a tag is dropped
TEN_DIGITS = "^([^0-9]*[0-9]){10}"

TagFilter = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=MAX_TAG_LENGTH,
        description=f"a whole tag: {TAG_RULE}",
        pattern=NO_CONTROL_CHARACTERS,
        schema_extra={"pattern": tag.PATTERN},
    ),
]
OperatorCodeFilter = Annotated[
    str | None,
    QueryParameter(
        pattern=phone.OPERATOR_CODE_PATTERN,
        min_length=phone.OPERATOR_CODE_LENGTH,
        max_length=phone.OPERATOR_CODE_LENGTH,
        description="3 digits, such as 916",
    ),
]
PhoneFilter = Annotated[
    str | None,
    QueryParameter(
        pattern=TEN_DIGITS,
        max_length=phone.MAX_INPUT,
        description=PHONE_RULE,
        schema_extra={"pattern": phone.PATTERN, "maxLength": phone.LENGTH},
    ),
]


@get(summary="List clients")
async def list_clients(
    request: ApiRequest,
    tag: TagFilter = None,
    operator_code: OperatorCodeFilter = None,
    phone: PhoneFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ClientOut]:
    """List clients by id. Filters combine; a page costs the same at any depth."""
    wanted = search.Search(
        phone=_normalised("phone", phone, normalised_phone),
        tag=_normalised("tag", tag, normalised_tag),
        operator_code=operator_code or "",
    )
    found = await search.list_clients(state_of(request).reads, wanted, after=decode_cursor(cursor), limit=limit)
    return page(found, limit)


def _normalised(field: str, value: str | None, rewrite: Callable[[object], object]) -> str:
    try:
        return "" if value is None else str(rewrite(value))
    except ValueError as error:
        raise Invalid(FieldError(field, str(error))) from None


@post(
    summary="Create a client",
    responses=documented(409),
    response_headers=[ResponseHeader("Location", documentation_only=True, description="The new client's address")],
)
async def create_client(
    session: Session, state: AppState, data: JSONBody[ClientIn], caller: Caller
) -> Response[ClientOut]:
    """Create a client. Without an `operator_code` it is taken from digits 2 to 4 of the phone.

    A phone that opted out stays so, also if its client was deleted since: `opted_out` is then true in the answer. To
    opt in again, PATCH it to false.
    """
    async with name_phone_owner(state.reads, data.phone):
        client = await ClientRepository(session).create(data, by=caller)
    return Response(client, headers={"Location": f"/mailing/api/clients/{client.id}/"})


@get("/{client_id:int}", summary="Read a client")
async def read_client(request: ApiRequest, client_id: FromPath[Id]) -> ClientOut:
    return await repository.read_client(state_of(request).reads, client_id)


@put("/{client_id:int}", summary="Replace a client", responses=documented(409))
async def replace_client(
    session: Session, state: AppState, client_id: FromPath[Id], data: JSONBody[ClientIn], caller: Caller
) -> ClientOut:
    """Replace a client. A field that is left out is reset: the tag to null, the operator code to that of the phone.

    Only `opted_out` stays unless it is given, so an opt-out is never lost by omission. Unsent messages follow the
    change: they are cancelled when the client opts out, and wait for the local hours of a new time zone. Opting in
    again does not restore cancelled messages. A client that takes a phone which opted out is opted out.
    """
    async with name_phone_owner(state.reads, data.phone):
        return await ClientRepository(session).replace(client_id, data, by=caller)


@patch("/{client_id:int}", summary="Change a client", responses=documented(409))
async def change_client(
    session: Session, state: AppState, client_id: FromPath[Id], data: JSONBody[ClientPatch], caller: Caller
) -> ClientOut:
    """Change the given fields.

    The operator code follows a new phone, unless the client has one of its own, or one is given. Unsent messages follow
    the change, as with PUT.
    """
    async with name_phone_owner(state.reads, data.phone):
        return await ClientRepository(session).change(client_id, data, by=caller)


@delete("/{client_id:int}", summary="Delete a client")
async def delete_client(session: Session, client_id: FromPath[Id], caller: Caller) -> None:
    """Delete a client. Unsent messages are cancelled in the same transaction; sent ones stay counted."""
    await ClientRepository(session).remove(client_id, by=caller)


@dataclass
class ImportOperation(Operation):
    """Documents the body, a stream that is not a parameter of the handler."""

    def __post_init__(self) -> None:
        schema = Schema(
            type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY, description="CSV, in any of the encodings"
        )
        file = OpenAPIMediaType(schema=schema, example=CSV_EXAMPLE)
        self.request_body = RequestBody(content={"application/octet-stream": file}, required=True)


@post(
    "/import",
    status_code=200,
    summary="Import clients from CSV",
    operation_class=ImportOperation,
    request_max_body_size=MAX_IMPORT_BYTES,
    opt={CONCURRENCY_LIMIT: "imports", RETRY_ADVICE: csv_transfer.MAY_BE_STORED},
    middleware=[Idempotency, ReleaseLimits],
    description=f"""The body is the file itself, streamed:

    curl -H "Authorization: Bearer $KEY" -H "Content-Type: application/octet-stream" --data-binary @clients.csv \\
         http://127.0.0.1:8000/mailing/api/clients/import

The first line names the columns, in any order: `phone` and `timezone`, optionally `operator_code`, `tag` and
`opted_out`. Columns without a name and without values are left out. Commas, semicolons, tabs or bars separate the
columns, also after a line `sep=;`; the encoding is UTF-8, UTF-16 or Windows-1251. Both are recognised. Spaces around
values and blank lines do not matter. A phone may be written as people do: `+7 (916) 123-45-67`, `8 916 …`; `normalised`
counts the rows whose phone or tag was rewritten. At most
{MAX_IMPORT_BYTES // 10**6} MB in all, and {MAX_LINE_BYTES // 1024} KiB a row.

A client is identified by its phone: a new one is created, an existing one updated, and of several rows with one phone
the last counts. A bad row is left out and the others are stored, all in one transaction; nothing is stored when the
upload breaks off. `errors` lists the first {MAX_LISTED_ERRORS:,} bad fields, `rejected` counts every bad row, and
`created + updated + rejected` is the number of rows.

`opted_out` is `true`, `1` or `yes` to opt out a client, or a phone that has none yet: a client with that phone is opted
out from the start. `false`, `0`, `no` and an empty cell change nothing: no file opts anyone in, because it may be older
than the opt-out. In a file with this column only new clients need a `timezone`, so `phone,opted_out` is enough for
opt-outs alone. The number `opted_out` counts the phones that the file opted out, and the new clients whose phone had
opted out before.

An empty `operator_code` means digits 2 to 4 of the phone, an empty `tag` none; a
column that is not in the file changes nothing. If a time zone changes, unsent messages wait for the new local
hours. An apostrophe before `=`, `+`, `-` or `@` is removed where a cell could begin, at the start of a tag and
behind a separator in it: the export adds it, because spreadsheets would evaluate the cell as a formula.""",
)
async def import_clients(request: AnyRequest, session: Session, caller: Caller) -> ImportResult:
    kind, options = request.content_type
    if kind.startswith("multipart/"):
        raise Invalid(FieldError("body", "must be the CSV file itself, not a form: curl --data-binary @clients.csv"))
    if options.get("charset", "utf-8").lower() not in CHARSETS:
        raise Invalid(FieldError("body", f"must be one of {', '.join(CHARSETS)}; save the file as CSV UTF-8"))
    return await csv_transfer.import_clients(session, request.stream(), by=caller)


@get(
    "/export",
    summary="Export clients as CSV",
    media_type="text/csv",
    **limited("exports"),
    responses={
        200: ResponseSpec(str, description="All clients, by id", media_type="text/csv", generate_examples=False)
    },
)
async def export_clients(state: AppState) -> Stream:
    """Export all clients with the columns of the import, so the file can be imported again.

    Opt-outs of phones without a client are not in it: to move to another database, use a backup. A formula in a tag is
    escaped with an apostrophe, which the import removes.
    """
    return await csv_file(state, csv_transfer.export_clients(state.exporting), name="clients.csv")


async def csv_file(state: AppState, pages: AsyncIterator[bytes], *, name: str) -> Stream:
    shared = _one_at_a_time(pages, state.export_turn)
    first = await anext(shared)  # if the database can't answer, send a 503, not half a file
    disposition = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Stream(_after(first, shared), media_type="text/csv", headers=disposition)


async def _one_at_a_time(pages: AsyncIterator[bytes], turn: asyncio.Lock) -> AsyncIterator[bytes]:
    """Let one export at a time make a page, then yield the event loop for as long as that took."""
    while True:
        async with turn:
            started = time.monotonic()
            page = await anext(pages, None)
            await asyncio.sleep(min(time.monotonic() - started, MAX_PAUSE_S))
        if page is None:
            return
        yield page


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


clients = Router(
    "/clients",
    route_handlers=[
        list_clients,
        create_client,
        read_client,
        replace_client,
        change_client,
        delete_client,
        import_clients,
        export_clients,
    ],
    tags=["clients"],
)
