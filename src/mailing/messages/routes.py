"""`/mailing/api/messages`: what happened to one message."""

from litestar import get

from mailing.messages.queries import get_message
from mailing.messages.schemas import MessageDetail
from mailing.web.parameters import Id, Session, documented


@get(
    "/messages/{message_id:int}",
    summary="Read a message with its attempts",
    operation_id="read_message",
    responses=documented(400, 404),
    tags=["messages"],
)
async def read_message(session: Session, message_id: Id) -> MessageDetail:
    """`id` is also the id that the gateway gets, in every attempt."""
    return await get_message(session, message_id)
