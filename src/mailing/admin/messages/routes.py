"""`/admin/mailings/{id}/messages` and `/admin/messages/{id}`: the messages of a mailing, and one message."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, cast, get_args
from urllib.parse import urlencode

from litestar import Response, get, post
from litestar.params import QueryParameter
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.admin.forms import form, option, post_form
from mailing.admin.guards import SENDER, VIEWER
from mailing.admin.kept_forms import KEEPS_FORM, is_restored
from mailing.admin.pages import page, redirect
from mailing.admin.viewer import CurrentViewer, viewer_of
from mailing.database.clock import database_now
from mailing.events.history import HistoryCursor, history
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.resolution import resolve
from mailing.mailings.schemas import MailingOut
from mailing.messages.queries import get_message, message_to, messages_of
from mailing.messages.schemas import Delivery, MessageDetail, MessageOut, Resolution, ResolvedStatus
from mailing.messages.states import MessageStatus
from mailing.receipts import RECEIPTS_TIME
from mailing.web import pagination
from mailing.web.pagination import Cursor, decode_cursor
from mailing.web.parameters import Caller, Id, Session
from mailing.web.state import AnyRequest, state_of

PAGE_SIZE = 50
MAX_NOTE = 500
MAX_HISTORY = 200


class Filter(Struct, frozen=True):
    """`delivery` counts before `status`."""

    status: MessageStatus | None
    delivery: Delivery | None

    @property
    def query(self) -> dict[str, str]:
        if self.delivery:
            return {"delivery": self.delivery.value}
        return {"status": self.status.value} if self.status else {}


@get("/mailings/{mailing_id:int}/messages", guards=VIEWER)
async def messages_page(
    request: AnyRequest,
    session: Session,
    mailing_id: Id,
    status: Annotated[str, QueryParameter()] = "",
    delivery: Annotated[str, QueryParameter()] = "",
    cursor: Cursor = None,
) -> Response[str]:
    """List the messages, filtered by status or by delivery. An unknown one is ignored."""
    chosen = Filter(option(MessageStatus, status), option(Delivery, delivery))
    return await _list(request, session, mailing_id, chosen, cursor=cursor)


@post("/mailings/{mailing_id:int}/messages", guards=VIEWER, status_code=200)
async def search_messages(request: AnyRequest, session: Session, mailing_id: Id) -> Response[Any]:
    """Search by POST: in an address a phone would appear in the logs of proxies."""
    sent = await form(request)
    chosen = Filter(option(MessageStatus, sent.get("status", "")), option(Delivery, sent.get("delivery", "")))
    if phone := sent.get("phone", ""):
        return await _list(request, session, mailing_id, chosen, phone=phone)
    return redirect(_address(mailing_id, chosen.query))


def _address(mailing_id: int, query: Mapping[str, str]) -> str:
    return f"/admin/mailings/{mailing_id}/messages" + (f"?{urlencode(query)}" if query else "")


async def _list(
    request: AnyRequest,
    session: AsyncSession,
    mailing_id: int,
    chosen: Filter,
    *,
    phone: str = "",
    cursor: str | None = None,
) -> Response[str]:
    mailing = await MailingRepository(session=session).get_visible(mailing_id)
    digits = "".join(each for each in phone if each in "0123456789")
    language = viewer_of(request).language
    if phone:
        message = await message_to(session, mailing_id, phone=digits, language=language)
        found: Sequence[MessageOut] = [message] if message and chosen.status in (None, message.status) else []
    else:
        place: dict[str, Any] = {"cursor": decode_cursor(cursor), "limit": PAGE_SIZE, "language": language}
        status = None if chosen.delivery else chosen.status
        found = await messages_of(session, mailing_id, status=status, delivery=chosen.delivery, **place)
    listed = pagination.page(found, PAGE_SIZE)
    following = chosen.query | {"cursor": listed.next_cursor or ""}
    return page(
        request,
        "messages/list.html",
        mailing=MailingOut.of(mailing),
        messages=listed.items,
        statuses=list(MessageStatus),
        chosen=chosen.status,
        delivery=chosen.delivery,
        receipts=state_of(request).receipts_expected,
        phone=phone,
        next_page=_address(mailing_id, following) if listed.next_cursor else "",
        first_page=_address(mailing_id, chosen.query) if cursor else "",
    )


@get("/messages/{message_id:int}", guards=VIEWER)
async def message_page(request: AnyRequest, session: Session, message_id: Id) -> Response[str]:
    return await _message_page(request, session, message_id, errors={}, sent={})


@post_form("/messages/{message_id:int}/resolve", guards=SENDER, opt={KEEPS_FORM: True})
async def resolve_page(
    request: AnyRequest, session: Session, viewer: CurrentViewer, message_id: Id, caller: Caller
) -> Response[Any]:
    sent = await form(request)
    errors = {} if is_restored(request) else _form_errors(sent, viewer)
    if errors or is_restored(request):
        return await _message_page(request, session, message_id, errors=errors, sent=sent)
    resolution = Resolution(as_=cast("ResolvedStatus", sent["as"]), note=sent.get("note") or None)
    await resolve(session, message_id, resolution, by=caller)
    return redirect(f"/admin/messages/{message_id}", notice=viewer.gettext("The result was saved."))


def _form_errors(sent: Mapping[str, str], viewer: CurrentViewer) -> dict[str, str]:
    errors = {}
    if sent.get("as") not in get_args(ResolvedStatus):
        errors["as-sent"] = viewer.gettext("Choose what happened to the message.")
    if len(sent.get("note", "")) > MAX_NOTE:
        errors["note"] = viewer.gettext("The note is longer than 500 characters. Shorten it.")
    return errors


async def _message_page(
    request: AnyRequest,
    session: AsyncSession,
    message_id: int,
    *,
    errors: dict[str, str],
    sent: Mapping[str, str],
) -> Response[str]:
    language = viewer_of(request).language
    message = await get_message(session, message_id, language=language)
    entries = await history(
        session, "message_id", message_id, after=HistoryCursor(), limit=MAX_HISTORY, language=language
    )
    return page(
        request,
        "messages/message.html",
        story=message,
        happened=[happened for _, happened in entries[:MAX_HISTORY]],
        more=len(entries) > MAX_HISTORY,
        errors=errors,
        sent=sent,
        **_delivery_facts(message if state_of(request).receipts_expected else None, await database_now(session)),
    )


def _delivery_facts(message: MessageDetail | None, now: datetime) -> dict[str, Any]:
    """Describe the delivery of a sent message: its receipt, `awaited`, or `none` if it is too late for one.

    `after`: seconds from the acceptance to the delivery, where we know both.
    """
    if message is None or message.sent_at is None:
        return {"receipt": None, "after": None}
    if message.receipt is None or message.receipt.state == "accepted":
        return {"receipt": "none" if now - message.sent_at > RECEIPTS_TIME else "awaited", "after": None}
    after = round((message.receipt.at - message.sent_at).total_seconds())
    return {"receipt": message.receipt.state, "after": after if after > 0 else None}


messages = [messages_page, search_messages, message_page, resolve_page]
