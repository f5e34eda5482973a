"""`/mailing/api/mailings`: create, read, edit, delete."""

from typing import Annotated

from litestar import Controller, Response, delete, get, patch, put
from litestar.datastructures import ResponseHeader
from litestar.params import JSONBody, QueryParameter
from msgspec.structs import asdict

from mailing.mailings import editing
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.schemas import MailingIn, MailingOut, MailingPatch
from mailing.mailings.states import MailingStatus
from mailing.web.idempotency import post
from mailing.web.pagination import Cursor, Limit, Page, decode_cursor, page
from mailing.web.parameters import Caller, Id, Session, documented
from mailing.web.validation import given_fields

StatusFilter = Annotated[
    MailingStatus | None,
    QueryParameter(description="a status of a mailing: draft, scheduled, running, paused, finished or cancelled"),
]


class MailingController(Controller):
    path = "/mailings"
    tags = ["mailings"]  # noqa: RUF012 - Litestar's way to declare it

    @get("/", summary="List mailings")
    async def list_mailings(
        self, session: Session, limit: Limit = 50, cursor: Cursor = None, status: StatusFilter = None
    ) -> Page[MailingOut]:
        """List mailings by id, without deleted ones."""
        found = await MailingRepository(session=session).list_after(decode_cursor(cursor), limit=limit, status=status)
        return page([MailingOut.of(mailing) for mailing in found], limit)

    @post(
        "/",
        summary="Create a mailing",
        response_headers=[ResponseHeader("Location", documentation_only=True, description="The new mailing's address")],
    )
    async def create_mailing(self, session: Session, data: JSONBody[MailingIn], caller: Caller) -> Response[MailingOut]:
        """Create a mailing: sent from `starts_at` on, or at once if that has passed, and never at or after `ends_at`.

        A key that may create a mailing may send, so creating it releases it: only the admin page makes a `draft`. The
        audience is fixed at the start: clients added later don't join.
        """
        created = await editing.create(session, data, by=caller)
        return Response(created, status_code=201, headers={"Location": f"/mailing/api/mailings/{created.id}/"})

    @get("/{mailing_id:int}", summary="Read a mailing")
    async def read_mailing(self, session: Session, mailing_id: Id) -> MailingOut:
        return MailingOut.of(await MailingRepository(session=session).get_visible(mailing_id))

    @put("/{mailing_id:int}", summary="Replace a mailing", responses=documented(409))
    async def replace_mailing(
        self, session: Session, mailing_id: Id, data: JSONBody[MailingIn], caller: Caller
    ) -> MailingOut:
        """Replace every field, as PATCH with all of them: a field that is left out takes its default."""
        return await editing.edit(session, mailing_id, asdict(data), by=caller)

    @patch("/{mailing_id:int}", summary="Change a mailing", responses=documented(409))
    async def change_mailing(
        self, session: Session, mailing_id: Id, data: JSONBody[MailingPatch], caller: Caller
    ) -> MailingOut:
        """Change the given fields.

        The unsent messages of a running or paused mailing are planned again, also if only the text changes: clients
        that match now join, messages to clients that no longer match are cancelled, the new window and end apply. Sent
        messages never change, and a message that may have been accepted keeps its text. `starts_at` can't change after
        the start; a finished or cancelled mailing can't be changed (409). A released mailing stays released with the
        change; a `draft` stays a draft until POST …/release.
        """
        return await editing.edit(session, mailing_id, given_fields(data), by=caller)

    @delete("/{mailing_id:int}", summary="Delete a mailing", status_code=204)
    async def delete_mailing(self, session: Session, mailing_id: Id, caller: Caller) -> None:
        """Delete a mailing: unsent messages are cancelled before the answer; sent ones stay counted in the totals."""
        await editing.remove(session, mailing_id, by=caller)
